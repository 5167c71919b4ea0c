from __future__ import annotations

import pytest
from tests.convert.graphs import Graphs


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    return Graphs(tmp_path_factory.mktemp("home"))
