"""Numbers for tests that are the same on every machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.card import Card, Task
from saccade.ops.resize import Frame
from saccade.results import Masks

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "postprocessing.json").read_text())
"""What post-processing of transformers 5.23.0 made of :func:`wave` numbers."""
HW = (45, 33)
FRAME = Frame(HW, (64, 64))


def wave(shape: tuple[int, ...], step: float, size: float = 3.0) -> NDArray[np.float32]:
    """Numbers without pattern or ties."""
    places = np.arange(1, int(np.prod(shape)) + 1, dtype=np.float64)
    values = size * np.sin(places * step) + size * 0.5 * np.cos(places * places * 0.01 * step)
    return values.reshape(shape).astype(np.float32)


def card(task: Task, family: str, kind: str, classes: int, **config: Any) -> Card:
    """The Card of a Hub model whose pictures a processor of this kind prepares."""
    return Card(
        name="made",
        task=task,
        family=family,
        runtime="openvino",
        labels={number: f"class {number}" for number in range(classes)},
        config={"preprocessor": {"image_processor_type": f"{kind}ImageProcessor"}, "config": config},
    )


def summary(masks: Masks) -> list[list[Any]]:
    """Class, score, area and the sum of pixel numbers of each segment: as good as the masks themselves."""
    height, width = HW if masks.grid.image_hw == HW else masks.grid.image_hw
    numbers = np.arange(height * width).reshape(height, width)
    found = []
    for class_id, score, crop in zip(masks.class_ids.tolist(), masks.scores.tolist(), masks.crops, strict=True):
        whole = np.zeros((height, width), np.int64)
        whole[crop.y : crop.y + crop.pixels.shape[0], crop.x : crop.x + crop.pixels.shape[1]] = crop.pixels
        found.append([class_id, round(score, 5), int(whole.sum()), int((whole * numbers).sum())])
    return found
