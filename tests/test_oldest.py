"""The oldest versions of the libraries that pyproject.toml names: they are promised as much as the pinned ones."""

from __future__ import annotations

import os
import subprocess
import tomllib

import pytest
from tests.clients.environments import ROOT, environment

EXTRAS = ("hub", "onnxruntime", "zero-shot", "redis", "postgres")
TESTERS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "onnx")
USED = ("server/test_run.py", "server/test_keys.py", "stores/test_hub.py", "runtimes", "cli/test_predict.py")
"""Tests of what most depends on libraries: HTTP, the database, the Hub, graphs, files and the command line."""


@pytest.mark.heavy
def test_the_oldest_libraries_that_are_promised_serve_predict_and_fetch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    python = environment("oldest", "--resolution=lowest-direct", "--only-binary=:all:", *wanted, *_pinned(*TESTERS))
    done = subprocess.run(
        [str(python), "-m", "pytest", "-q", "-n", "3", "-p", "no:cacheprovider", *(f"tests/{path}" for path in USED)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=800,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
    )
    assert done.returncode == 0, done.stdout[-4000:]


def _pinned(*names: str) -> list[str]:
    """As the other tests use them."""
    lines = (ROOT / "requirements-dev.lock").read_text().splitlines()
    return [line.split()[0] for line in lines if line.partition("==")[0] in names]
