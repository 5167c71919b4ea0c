"""The accuracy on COCO photos is the reference library's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "accuracy" / "coco.py"

REFERENCE = {
    "yolov8n": {"bbox": 0.4317},
    "yolo11n": {"bbox": 0.4268},
    "yolo26n": {"bbox": 0.4560},
    "yolo11n-seg": {"bbox": 0.4274, "segm": 0.3615},
    "yolov8n-seg-dynamic": {"bbox": 0.3997, "segm": 0.3383},
    "yolo11n-pose": {"bbox": 0.4775, "keypoints": 0.4407},
}
"""ultralytics 8.4.190 with onnxruntime 1.31.1 in float32."""


@pytest.mark.heavy
@pytest.mark.parametrize("name", REFERENCE)
def test_accuracy_in_f32_is_the_references_to_a_tenth_of_a_point(data: Path, name: str) -> None:
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--data", data, "--models", name, "--precisions", "f32", "--json"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert json.loads(ran.stdout)[name]["f32"] == pytest.approx(REFERENCE[name], abs=0.001)
