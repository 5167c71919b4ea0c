"""What every family keeps, whatever its architecture; a new file in families/ is picked up by itself."""

from __future__ import annotations

import pkgutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from family_examples import EXAMPLES, RESULTS, Example
from numpy.typing import NDArray

from saccade import families
from saccade.call import Options
from saccade.families.family import Family, Prepared
from saccade.results import Boxes, Keypoints, Labels, Masks, OrientedBoxes, Result

SIZES = [(1, 1), (1, 300), (300, 1), (37, 53), (64, 64), (480, 640), (641, 333)]

ELSEWHERE = {"clip", "depth", "transformers"}
"""Families that need words, whose answers are no rows, or whose library is not installed here have tests of their
own."""

FOUND = [
    name
    for name in sorted({module.name for module in pkgutil.iter_modules(families.__path__)} - ELSEWHERE)
    if hasattr(__import__(f"saccade.families.{name}", fromlist=["FAMILY"]), "FAMILY")
]
CONF = {"detr": 0.5, "movenet": 0.1, "picodet": 0.4, "yolox": 0.3}
"""How sure a detection has to be where the caller does not say it; the others' examples have too many for that."""
CASES = [pytest.param(case, id=f"{name}-{case.card.task}") for name in FOUND for case in EXAMPLES.get(name, ())]


def made(case: Example) -> Family:
    return families.find(case.card.family)(case.card)


def image(hw: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)


def same(first: Result, second: Result) -> bool:
    """Whether two results are equal to the last bit."""
    return fingerprint(first) == fingerprint(second)


def fingerprint(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, tuple):
        return tuple(fingerprint(item) for item in value)
    if hasattr(value, "__dataclass_fields__"):
        return tuple(fingerprint(getattr(value, name)) for name in value.__dataclass_fields__)
    return value


def offers_limits(case: Example) -> bool:
    """Labels and segments have other options; the simulated family is for drills."""
    return case.card.task not in ("classify", "segment") and case.card.family != "simulated"


def count(result: Result) -> int:
    assert not hasattr(result, "depth")
    return len(result.names)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", FOUND)
def test_every_family_has_an_example_for_this_contract(name: str) -> None:
    assert EXAMPLES.get(name), f"add an example of the family '{name}' to tests/families/family_examples.py"


@pytest.mark.parametrize("hw", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_an_image_of_any_size_becomes_tensors_of_one_image(case: Example, hw: tuple[int, int]) -> None:
    family, photo = made(case), image(hw)
    before = photo.copy()
    prepared = family.prepare(photo, Options())
    assert np.array_equal(photo, before)
    assert prepared.frame.image_hw == hw
    pictures = [name or next(iter(prepared.tensors)) for name in family.pixels()]
    for name, tensor in prepared.tensors.items():
        assert tensor.shape[0] == 1
        if name in pictures:
            assert tensor.dtype == np.uint8
            assert tensor.ndim == 4
            assert tensor.shape[3] == 3
            assert tensor.shape[1:3] == prepared.frame.input_hw


@pytest.mark.parametrize("hw", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_a_result_is_of_its_task_and_whole(case: Example, hw: tuple[int, int]) -> None:
    family = made(case)
    prepared = family.prepare(image(hw), Options())
    result = family.read(case.graph(prepared.tensors), prepared.frame, Options(conf=0.0))
    assert isinstance(result, RESULTS[case.card.task])
    rows = count(result)
    assert len(result.scores) == len(result.class_ids) == rows
    assert result.scores.dtype == np.float32
    assert result.class_ids.dtype == np.int32
    assert np.isfinite(result.scores).all()
    assert all(result.names)
    match result:
        case Boxes() | Keypoints() | Masks():
            assert result.boxes_xyxy.shape == (rows, 4)
            assert result.boxes_xyxy.dtype == np.float32
            assert (result.boxes_xyxy[:, :2] <= result.boxes_xyxy[:, 2:]).all()
        case OrientedBoxes():
            assert result.boxes_xywhr.shape == (rows, 5)
            assert result.corners_xy.shape == (rows, 4, 2)
            assert np.allclose(result.corners_xy.mean(axis=1), result.boxes_xywhr[:, :2], atol=0.01)
        case Labels():
            assert (np.diff(result.scores) <= 0).all()
    if isinstance(result, Keypoints):
        assert result.keypoints_xy.shape[0] == rows
        assert result.visibility is None or result.visibility.shape == result.keypoints_xy.shape[:2]
    if isinstance(result, Masks):
        assert len(result.crops) == len(result.areas) == rows
        assert result.grid.image_hw == hw
        for crop in result.crops:
            assert crop.y + crop.pixels.shape[0] <= result.grid.height
            assert crop.x + crop.pixels.shape[1] <= result.grid.width


@pytest.mark.parametrize("case", [case for case in CASES if case.values[0].nothing is not None])
def test_nothing_found_is_an_empty_result(case: Example) -> None:
    family = made(case)
    prepared = family.prepare(image((48, 80)), Options())
    assert case.nothing is not None
    assert count(family.read(case.graph(prepared.tensors), prepared.frame, case.nothing)) == 0


@pytest.mark.parametrize("case", [case for case in CASES if case.values[0].card.family in CONF])
def test_without_a_threshold_the_usual_one_counts(case: Example) -> None:
    family, usual = made(case), CONF[case.card.family]
    differ = {-0.05: False, 0.05: False}
    for seed in range(40):
        prepared = family.prepare(image((48, 80), seed), Options())
        outputs = case.graph(prepared.tensors)
        answer = family.read(outputs, prepared.frame, Options())
        assert same(answer, family.read(outputs, prepared.frame, Options(conf=usual)))
        for step in differ:
            differ[step] |= not same(answer, family.read(outputs, prepared.frame, Options(conf=usual + step)))
    assert all(differ.values()), "the examples have scores on both sides of it"


@pytest.mark.parametrize("case", CASES)
def test_images_of_one_batch_answer_as_if_they_were_alone(case: Example) -> None:
    """The engine stacks the tensors of equal shapes and cuts the outputs apart again."""
    family = made(case)
    alone = [family.prepare(image((50, 70), seed), Options()) for seed in range(3)]
    options = Options(conf=0.0, overlap_threshold=0.1)
    answers = [family.read(case.graph(item.tensors), item.frame, options) for item in alone]
    assert len({fingerprint(family.prepare(image((50, 70), 0), Options()).frame) for _ in range(2)}) == 1
    batch = {name: np.concatenate([item.tensors[name] for item in alone]) for name in alone[0].tensors}
    for number, item in enumerate(alone):
        cut = {name: tensor[number : number + 1] for name, tensor in batch.items()}
        assert same(family.read(case.graph(cut), item.frame, options), answers[number])
    if case.card.task != "classify":
        assert len({str(fingerprint(answer)) for answer in answers}) > 1, "the example's graph ignores its pixels"


@pytest.mark.parametrize("case", CASES)
def test_reading_changes_neither_the_outputs_nor_the_family(case: Example) -> None:
    family = made(case)
    prepared = family.prepare(image((50, 70)), Options())
    outputs = case.graph(prepared.tensors)
    before = [output.copy() for output in outputs]
    first = family.read(outputs, prepared.frame, Options())
    family.read(outputs, prepared.frame, Options(conf=0.9, max_det=1, top_k=1, iou=0.1, classes=(1,)))
    assert same(family.read(outputs, prepared.frame, Options()), first)
    assert all(np.array_equal(old, new) for old, new in zip(before, outputs, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_many_threads_may_use_one_family(case: Example) -> None:
    family = made(case)

    def answer(seed: int) -> Result:
        prepared: Prepared = family.prepare(image((40 + seed, 60), seed), Options())
        return family.read(case.graph(prepared.tensors), prepared.frame, Options())

    alone = [answer(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(answer, range(8)))
    assert all(same(first, second) for first, second in zip(alone, together, strict=True))


@pytest.mark.parametrize("case", [case for case in CASES if offers_limits(case.values[0])])
def test_the_callers_limits_are_kept(case: Example) -> None:
    family = made(case)
    prepared = family.prepare(image((50, 70)), Options())
    outputs = case.graph(prepared.tensors)
    everything = family.read(outputs, prepared.frame, Options(conf=0.0))
    assert count(everything) > 0
    limited = family.read(outputs, prepared.frame, Options(conf=0.0, max_det=1))
    assert count(limited) == 1
    assert limited.scores[0] == everything.scores.max()  # type: ignore[union-attr]
    middle = float(np.median(everything.scores))  # type: ignore[union-attr]
    assert (family.read(outputs, prepared.frame, Options(conf=middle)).scores > middle - 1e-6).all()  # type: ignore[union-attr]
    chosen = int(everything.class_ids[0])  # type: ignore[union-attr]
    some = family.read(outputs, prepared.frame, Options(conf=0.0, classes=(chosen,)))
    assert set(some.class_ids.tolist()) == {chosen}  # type: ignore[union-attr]
    assert count(family.read(outputs, prepared.frame, Options(conf=0.0, classes=(77,)))) == 0
