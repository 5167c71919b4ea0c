from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.families.made import GOLDEN, wave

from saccade.ops import maps
from saccade.ops.selection import torch_topk_unsorted


@pytest.mark.parametrize("row", GOLDEN["bilinear"], ids=lambda row: f"{row['shape']} to {row['hw']}")
def test_bilinear_is_that_of_torch(row: dict[str, Any]) -> None:
    found = maps.bilinear(wave(tuple(row["shape"]), 0.31), tuple(row["hw"]))
    assert np.allclose(found, row["values"], atol=2e-5)


@pytest.mark.parametrize("row", GOLDEN["nearest"], ids=lambda row: f"{row['shape']} to {row['hw']}")
def test_nearest_is_that_of_torch(row: dict[str, Any]) -> None:
    found = maps.nearest(wave(tuple(row["shape"]), 0.31), tuple(row["hw"]))
    assert np.allclose(found, row["values"], atol=2e-5)


@pytest.mark.parametrize("row", GOLDEN["topk"], ids=lambda row: f"{row['k']} of {row['n']}")
def test_the_largest_come_in_the_order_of_torch(row: dict[str, Any]) -> None:
    assert torch_topk_unsorted(wave((row["n"],), row["step"]), row["k"]).tolist() == row["order"]


def test_of_few_wanted_among_many_the_largest_come_first() -> None:
    values = np.random.default_rng(0).permutation(192).astype(np.float32)
    assert values[torch_topk_unsorted(values, 3)].tolist() == [191, 190, 189]


def test_planes_that_cannot_win_are_left_out_without_changing_the_answer() -> None:
    random = np.random.default_rng(0)
    planes = random.normal(0, 1, (30, 12, 9)).astype(np.float32)
    planes[5:] -= 4
    whole = np.stack([maps.bilinear(plane, (50, 61)) for plane in planes]).argmax(axis=0)
    assert np.array_equal(maps.winners(planes, (50, 61)), whole)
    assert maps.contenders(planes).sum() < 30


def test_a_crop_holds_what_is_set_and_an_empty_map_one_empty_pixel() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[3:7, 11:12] = 1
    crop = maps.cut(mask)
    assert (crop.x, crop.y, crop.pixels.shape, int(crop.pixels.sum())) == (11, 3, (4, 1), 4)
    assert maps.cut(np.zeros((5, 5), np.uint8)).pixels.tolist() == [[0]]


def test_a_plane_without_numbers_wins_nowhere_and_stands_in_nobodys_way() -> None:
    best, winner = np.full((2, 3), -np.inf, np.float32), np.full((2, 3), -1, np.int32)
    for number, value in enumerate((0.2, np.nan, 0.5, 0.1)):
        maps.outdo(best, winner, np.full((2, 3), value, np.float32), number)
    assert (winner == 2).all()
    assert (best == np.float32(0.5)).all()
