"""Detections out of the grids of a head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade.ops.boxes import corners_of
from saccade.ops.grids import Grids, Level, levels_of, ranked_above, rows_above, table_of

INPUT_HW = (64, 96)
FORMS = [Grids(), Grids("coefficients"), Grids("keypoints", 3), Grids("keypoints", 2), Grids("angle")]
EXTRAS = {"": 0, "coefficients": 8, "keypoints": 6, "angle": 1}


def grids_of(form: Grids, classes: int = 5, bins: int = 16) -> list[NDArray[np.float32]]:
    """Levels of three steps, with numbers that bfloat16 can hold."""
    numbers = np.random.default_rng(classes)
    counts = [4 * bins, classes, *([EXTRAS[form.extra]] if form.extra else [])]
    parts = []
    for step in (8, 16, 32):
        shape = (1, INPUT_HW[0] // step, INPUT_HW[1] // step)
        level = [(numbers.normal(size=(*shape, count)) * 3).astype(np.float32) for count in counts]
        parts += with_best([(part.view(np.uint32) & 0xFFFF0000).view(np.float32) for part in level])
    return parts


def with_best(level: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Sides, classes, the largest of these, further numbers."""
    return [*level[:2], level[1].max(axis=3, keepdims=True), *level[2:]]


def bits(part: NDArray[np.float32]) -> NDArray[np.uint16]:
    return (part.view(np.uint32) >> 16).astype(np.uint16)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.extra or 'boxes'}-{form.step}")
@pytest.mark.parametrize("conf", [0.0, 0.001, 0.25, 0.5, 0.75, 0.999, 1.0])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_the_places_that_may_be_kept_are_those_of_the_whole_table(form: Grids, conf: float, half: bool) -> None:
    outputs: list[NDArray[Any]] = list(grids_of(form))
    table = table_of(levels_of(outputs, form), form, INPUT_HW)
    if half:
        outputs = [bits(part) for part in outputs]
    rows = rows_above(levels_of(outputs, form), form, INPUT_HW, conf)
    kept = rows[rows[:, 4:9].max(axis=1) > conf]
    np.testing.assert_allclose(kept, table[:, table[4:9].max(axis=0) > conf].T, rtol=1e-6, atol=1e-5)
    assert len(rows) <= table.shape[1]
    if 0.001 < conf < 1:
        assert (rows[:, 4:9].max(axis=1) > conf - 0.02).all(), "places that cannot be kept were finished"


def test_one_class_and_numbers_that_are_none_are_looked_at_like_others() -> None:
    outputs = grids_of(Grids(), classes=1)
    outputs[1][0, 0, 0] = np.nan
    for parts in (outputs, [bits(part) for part in outputs]):
        levels = levels_of(parts, Grids())
        rows, table = rows_above(levels, Grids(), INPUT_HW, 0.25), table_of(levels, Grids(), INPUT_HW)
        kept = rows[rows[:, 4] > 0.25]
        assert len(kept) > 10
        np.testing.assert_allclose(kept, table[:, table[4] > 0.25].T, rtol=1e-6, atol=1e-5)


def test_boxes_keypoints_and_angles_lie_where_the_place_in_the_grid_is() -> None:
    """One place by hand: the second column and first row of a grid of step 32."""
    sides = np.full((1, 2, 3, 4), 0, np.float32)
    sides[0, 0, 1] = 1, 0.25, 0.5, 0.75  # with one bin the distances themselves, in cells
    classes = np.zeros((1, 2, 3, 1), np.float32)

    def told(form: Grids, *extra: float) -> list[float]:
        extras = [np.full((1, 2, 3, len(extra)), extra, np.float32)] if extra else []
        level: Level = tuple(with_best([sides, classes, *extras]))
        found: list[float] = table_of([level], form, INPUT_HW)[:, 1].tolist()
        return found

    assert told(Grids()) == pytest.approx([(1.5 - 0.25) * 32, (0.5 + 0.25) * 32, 1.5 * 32, 1 * 32, 0.5])
    assert told(Grids("keypoints", 3), 0.5, -0.5, 0)[5:] == pytest.approx([2 * 32, -1 * 32, 0.5])
    turned = told(Grids("angle"), np.log(3))  # sigmoid 0.75: a right angle
    assert turned == pytest.approx([(1.5 - 0.25) * 32, (0.5 - 0.25) * 32, 48, 32, 0.5, np.pi / 2], abs=1e-5)


@pytest.mark.parametrize("form", [Grids(ranked=20), Grids("angle", ranked=20), Grids("keypoints", 2, ranked=500)])
def test_a_head_that_finds_every_object_once_gives_the_best_of_its_places_with_each_of_their_classes(
    form: Grids,
) -> None:
    numbers = np.random.default_rng(7)
    outputs = [numbers.normal(size=part.shape).astype(np.float32) for part in grids_of(form, bins=1)]  # no two alike
    for start in range(0, len(outputs), form.width):
        outputs[start + 2] = outputs[start + 1].max(axis=3, keepdims=True)
    levels = levels_of(outputs, form)
    table = table_of(levels, form, INPUT_HW)
    places = sorted(range(table.shape[1]), key=lambda place: -table[4:9, place].max())[: form.ranked]
    pairs = sorted(((table[4 + kind, place], place, kind) for place in places for kind in range(5)), reverse=True)
    for conf in (0.0, 0.3):
        rows = ranked_above(levels, form, INPUT_HW, conf)
        rows = rows[rows[:, 4] > conf]
        expected = [pair for pair in pairs[: form.ranked] if pair[0] > conf]
        np.testing.assert_allclose(rows[:, 4], [score for score, *_ in expected], rtol=1e-6)
        assert rows[:, 5].tolist() == [kind for *_, kind in expected]
        boxes = table[:4, [place for _, place, _ in expected]].T
        np.testing.assert_allclose(rows[:, :4], boxes if form.extra == "angle" else corners_of(boxes), rtol=1e-6)
        np.testing.assert_allclose(rows[:, 6:], table[9:, [place for _, place, _ in expected]].T, rtol=1e-6)


def test_outputs_that_a_graph_has_finished_are_no_levels() -> None:
    table, prototypes = np.zeros((1, 116, 8400), np.float32), np.zeros((1, 32, 160, 160), np.float32)
    assert levels_of([table, prototypes], Grids("coefficients")) == []
    assert levels_of([prototypes, table], Grids("coefficients")) == []
    assert levels_of([table], Grids()) == []
    heads = [np.zeros((1, channels, 80, 80), np.float32) for channels in (64, 64, 64)]
    assert levels_of(heads, Grids()) == [], "heads with the channels before the grid"
    levels = grids_of(Grids("coefficients"))
    assert len(levels_of([*levels, prototypes], Grids("coefficients"))) == 3
