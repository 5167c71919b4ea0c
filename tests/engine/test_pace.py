"""Streams or batches: the measurement, and its memory."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.card import Card
from saccade.engine.pace import Pace, measured, recall, remember
from saccade.errors import RunFailed
from saccade.runtimes.session import Compute

CARD = Card(name="m", task="detect", family="yolo", runtime="openvino", revision="1")
IMAGE = {"": np.zeros((1, 4), np.float32)}


def test_a_device_that_does_one_thing_at_a_time_wants_batches() -> None:
    device = threading.Lock()

    def run(tensors: Any) -> None:
        with device:
            time.sleep(0.01)

    assert 8 <= measured(run, IMAGE, 2, 16).batch <= 16
    assert measured(run, IMAGE, 2, 4).batch == 4


@pytest.mark.parametrize("error", [MemoryError(), RunFailed("The card is out of memory.")])
def test_batches_for_which_there_is_no_room_are_not_made_and_stop_no_start(error: Exception) -> None:
    device = threading.Lock()

    def run(tensors: Any) -> None:
        if len(tensors[""]) > 4:
            raise error
        with device:
            time.sleep(0.01)

    assert measured(run, IMAGE, 2, 16).batch == 4


def test_a_device_whose_batches_take_longer_than_their_images_wants_none() -> None:
    def run(tensors: Any) -> None:
        count = len(tensors[""])
        time.sleep(0.03 * count * (1 if count == 1 else 1.5))

    assert measured(run, IMAGE, 2, 16).batch == 1


def test_a_slow_model_is_not_measured_for_long() -> None:
    def run(tensors: Any) -> None:
        time.sleep(0.4 * len(tensors[""]))

    begun = time.monotonic()
    assert measured(run, IMAGE, 2, 16).batch == 1
    assert time.monotonic() - begun < 3


def test_a_measurement_is_remembered_for_these_files_and_this_way_of_computing(tmp_path: Path) -> None:
    compute = Compute(threads=2, streams=2, cache_dir=str(tmp_path / "compiled"))
    pace = Pace(singles_per_s=10, batches_per_s=20, batch=4)
    assert recall(CARD, compute) is None
    remember(CARD, compute, pace)
    assert recall(CARD, compute) == pace
    assert recall(CARD, Compute(threads=4, streams=4, cache_dir=compute.cache_dir)) is None
    (tmp_path / "compiled" / "paces.json").write_text("{broken")
    assert recall(CARD, compute) is None
