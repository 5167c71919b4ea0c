from __future__ import annotations

import pytest
from tests.clients.environments import ROOT
from tests.convert.graphs import Graphs


@pytest.fixture(scope="session")
def graphs() -> Graphs:
    """Kept beside the sources and shared with the tests over HTTP: converting takes up to half a minute each."""
    return Graphs(ROOT / ".cache" / "converted")
