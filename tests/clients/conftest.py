"""What the programs of other people send."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.clients.pictures import photo


@pytest.fixture(scope="package")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "cats.jpg"
    path.write_bytes(photo())
    return path
