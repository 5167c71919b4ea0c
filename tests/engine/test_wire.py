"""The wire: everything that crosses comes out as it went in, and what is foreign is refused."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade import errors, results
from saccade.call import Answer, Clip, Options
from saccade.engine import wire
from saccade.engine.job import Done, End, Failed, Frame, Job
from saccade.meter import Timings

RNG = np.random.default_rng(3)


def floats(*shape: int) -> results.FloatArray:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(count: int) -> results.IntArray:
    return np.arange(count, dtype=np.int32)


GRID = results.Grid(height=160, width=160, gain_x=0.25, gain_y=0.25, pad_x=0.0, pad_y=2.5, image_hw=(480, 640))
SEGMENTS: dict[str, Any] = {
    "boxes_xyxy": floats(2, 4),
    "scores": floats(2),
    "class_ids": ints(2),
    "names": ("cat", "Käse 🧀"),
    "kind": "instance",
    "grid": GRID,
    "areas": ints(2),
}
RESULTS: list[results.Result] = [
    results.Labels(class_ids=ints(3), scores=floats(3), names=("a", "b", "c")),
    results.Boxes(boxes_xyxy=floats(0, 4), scores=floats(0), class_ids=ints(0), names=()),
    results.Boxes(boxes_xyxy=floats(2, 4), scores=floats(2), class_ids=ints(2), names=("a", "b"), track_ids=ints(2)),
    results.OrientedBoxes(
        boxes_xywhr=floats(1, 5), corners_xy=floats(1, 4, 2), scores=floats(1), class_ids=ints(1), names=("ship",)
    ),
    results.Keypoints(
        boxes_xyxy=floats(1, 4),
        scores=floats(1),
        class_ids=ints(1),
        names=("person",),
        keypoints_xy=floats(1, 17, 2),
        visibility=None,
    ),
    results.Masks(**SEGMENTS, form="polygon", polygons=(floats(5, 2), floats(300, 2))),
    results.Masks(**SEGMENTS, form="png", pngs=(b"\x89PNG", b"")),
    results.Masks(**SEGMENTS, form="rle", rles=(results.Rle((4, 5), (3, 2, 15)), results.Rle((4, 5), (20,)))),
    results.Masks(
        **SEGMENTS,
        form="crop",
        crops=(results.Crop(3, 4, np.eye(5, dtype=np.uint8)), results.Crop(0, 0, np.zeros((0, 0), np.uint8))),
    ),
    results.Depth(depth=floats(3, 4)),
]


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    if dataclasses.is_dataclass(one):
        same = type(one) is type(other)
        return same and all(equal(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_an_answer_comes_out_as_it_went_in(result: results.Result) -> None:
    answer = Answer(
        result=result,
        image_hw=(480, 640),
        timings=Timings(queue_ms=1.5, decode_ms=2.5),
        model="m",
        revision="r",
        input_hw=(640, 640),
        batch_size=3,
        annotated=b"jpeg",
    )
    back = wire.unpacked_answer(wire.packed_answer(answer))
    assert type(back) is Answer
    assert equal(back.result, result)
    assert msgspec.structs.replace(back, result=result) == answer


@pytest.mark.parametrize("more", [False, True])
def test_replies_keep_what_they_are(more: bool) -> None:
    answer = Answer(result=RESULTS[0], image_hw=(1, 2))
    reply = Frame(7, answer) if more else Done(7, answer)
    frame = wire.packed(wire.of_reply(reply))
    message = wire.from_worker(frame[wire.PREFIX.size :])
    assert isinstance(message, wire.Told)
    assert type(wire.to_reply(message)) is type(reply)
    end = wire.from_worker(wire.packed(wire.of_reply(End(9)))[wire.PREFIX.size :])
    assert isinstance(end, wire.Over)
    assert wire.to_reply(end) == End(9)


def leaves(root: type[errors.Error]) -> list[type[errors.Error]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in leaves(child))]


@pytest.mark.parametrize("kind", [kind for kind in leaves(errors.Error) if kind.__module__ == "saccade.errors"])
def test_every_error_of_the_tree_crosses_with_its_message(kind: type[errors.Error]) -> None:
    back = wire.error_of(kind.__name__, "what happened", 3.0)
    assert type(back) is kind
    assert back.message == str(back) == "what happened"
    if isinstance(back, errors.Busy | errors.QuotaSpent):
        assert back.retry_after_s == 3.0


@pytest.mark.parametrize(
    "error",
    [
        errors.MissingExtra("This", extra="hub"),
        errors.QuotaSpent("Enough.", limit=1, retry_after_s=2.0, reset_epoch_s=3.0),
        errors.StillLoading("Soon.", retry_after_s=4.0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_pickled_whole(error: errors.Error) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), vars(back), back.args) == (type(error), vars(error), error.args)


def test_a_missing_extra_still_names_it() -> None:
    error = errors.MissingExtra("This", extra="hub")
    back = wire.to_reply(wire.Sorry(1, *wire.named(error)))
    assert isinstance(back, Failed)
    assert isinstance(back.error, errors.MissingExtra)
    assert (back.error.extra, back.error.message) == ("hub", error.message)


def test_an_error_of_another_package_crosses_as_its_nearest_relative() -> None:
    class Special(errors.BadInput):
        pass

    assert wire.named(Special("hm")) == ("BadInput", "hm")


def test_a_job_crosses_with_its_options_and_its_body_beside_it() -> None:
    job = Job(id=3, options=Options(conf=0.5, classes=(1, 2)), left_s=1.5, clip=Clip(stride=2, track=True), credit=4)
    frame = wire.packed(job, b"12345")
    assert wire.PREFIX.unpack_from(frame) == (len(frame) - wire.PREFIX.size, 5)
    assert wire.to_worker(frame[wire.PREFIX.size :]) == job


@given(st.binary(max_size=200))
def test_garbage_raises_only_a_decode_error(data: bytes) -> None:
    for read in (wire.to_worker, wire.from_worker, wire.unpacked_answer):
        try:
            read(data)
        except msgspec.DecodeError:
            continue


def test_an_array_that_lies_about_its_size_is_refused() -> None:
    answer = wire.packed_answer(Answer(result=RESULTS[9], image_hw=(1, 2)))
    lying = answer.replace(np.array([3, 4], "<u4").tobytes(), np.array([3, 400], "<u4").tobytes())
    assert lying != answer
    with pytest.raises(msgspec.DecodeError):
        wire.unpacked_answer(lying)
