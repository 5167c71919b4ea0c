"""What the command line's tests share: a made detector, made photos, and a way to type commands."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from lamps import Typed, detector, photo

from saccade.cli import cli


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a detector that sees one lamp in the middle of every picture, as surely as it is bright."""
    folder = tmp_path_factory.mktemp("models")
    detector(folder / "lamps.onnx")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a bright and a dark photo."""
    folder = tmp_path / "photos"
    photo(folder / "bright.png", 230)
    photo(folder / "dark.png", 5)
    return folder


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Types ``saccade …`` with a home of its own and none of this machine's settings."""
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"

    def run(*words: str | Path, stdin: bytes | None = None, env: dict[str, str] | None = None) -> Result:
        environ = {"SACCADE_HOME": str(home), "COLUMNS": "160", "SACCADE_THREADS": "1", **(env or {})}
        return CliRunner().invoke(cli, [str(word) for word in words], input=stdin, env=environ, prog_name="saccade")

    return run


@pytest.fixture
def hangup_heard() -> Iterator[None]:
    """Programs that are started now hear SIGHUP, also when the tests run under nohup."""
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, former)
