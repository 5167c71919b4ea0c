"""From answers to HTTP in the envelopes of the Ultralytics APIs.

The first two generations wrap one image's items in ``success, message, data``; a video, which they never knew, is
answered in the envelope of the later ones: ``images`` with an entry per image or frame, and ``metadata``.
"""

from __future__ import annotations

import base64
import platform
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

import saccade
from saccade import errors
from saccade.call import Answer
from saccade.dialects.dialect import Outgoing
from saccade.dialects.yolo_ask import EVENTS, YoloAsk
from saccade.dialects.yolo_exports import MEDIA_TYPES, export
from saccade.dialects.yolo_items import Item, Style, flat_items, items
from saccade.results import Depth, IntArray, Masks

PYTHON = platform.python_version()
HUB_VERSION = {
    "python": PYTHON,
    "torch": "none",
    "torchvision": "none",
    "ultralytics": f"saccade {saccade.__version__}",
}
"""Typed clients ask for these four strings; none of the three libraries is there."""

PLATFORM_VERSION = {"python": PYTHON, "saccade": saccade.__version__}
DONE = "Inference complete."
WHITE, WHITE_16 = 255, 65535
NO_CLASS = 255

_sorted = msgspec.json.Encoder(order="sorted")
_plain = msgspec.json.Encoder()


def render(ask: YoloAsk, answers: Sequence[Answer]) -> Outgoing:
    """The whole answer."""
    headers = _headers(ask, answers)
    if ask.calls[0].annotate and len(answers) == 1 and answers[0].annotated is not None:
        return Outgoing(body=answers[0].annotated, media_type="image/jpeg", headers=headers)
    if ask.arguments.export is not None:
        clip = ask.calls[0].clip
        body = export(ask.arguments.export, answers, ask.arguments.decimals, 1 if clip is None else clip.stride)
        return Outgoing(body=body, media_type=MEDIA_TYPES[ask.arguments.export], headers=headers)
    if ask.shape in ("l1", "l2") and len(answers) == 1:
        return Outgoing(body=_plain.encode(_legacy(ask, answers[0])), headers=headers)
    # Entry by entry: as lists of Python's numbers, the outlines of a long video would take ten times the room.
    entries = [msgspec.Raw(_encoded(ask, entry(ask, answer))) for answer in answers]
    whole = {"images": entries, "metadata": metadata(ask, len(answers))}
    return Outgoing(body=_encoded(ask, whole), headers=headers)


async def render_stream(ask: YoloAsk, answers: AsyncIterator[Answer]) -> AsyncIterator[bytes]:
    """A line or an event per frame as it is ready, then one with the metadata, or with what went wrong.

    The last line lets a reader tell a finished stream from a broken one.
    """
    count = 0
    try:
        async for answer in answers:
            count += 1
            yield _line(ask, entry(ask, answer), "frame")
    except errors.Error as error:
        yield _line(ask, {"error": error.message}, "error")
    else:
        yield _line(ask, {"metadata": metadata(ask, count)}, "done")


def entry(ask: YoloAsk, answer: Answer) -> dict[str, Any]:
    """One image or frame: its items, its size, its times in milliseconds."""
    timings = answer.timings
    body: dict[str, Any] = {
        "results": [],
        "shape": list(answer.image_hw),
        "speed": {
            "preprocess": round(timings.preprocess_ms, 5),
            "inference": round(timings.inference_ms, 5),
            "postprocess": round(timings.postprocess_ms, 5),
        },
    }
    result = answer.result
    if isinstance(result, Depth):
        return body | {"depth": _depth(result.depth, ask.arguments.bits)}
    if isinstance(result, Masks) and result.kind == "semantic" and result.form == "rle":
        return body | _semantic(result, ask.arguments.decimals)
    body["results"] = _items(ask, answer)
    return body


def metadata(ask: YoloAsk, count: int) -> dict[str, Any]:
    """What was asked of whom and how long it took, times in seconds; five keys, and three more on the Platform."""
    took_s = time.perf_counter() - ask.began
    facts: dict[str, Any] = {
        "imageCount": count,
        "functionTimeCall": round(took_s, 5),
        "functionTimeAlive": round(ask.alive_s + took_s, 3),
        "model": ask.named,
        "version": HUB_VERSION,
    }
    if ask.shape == "platform":
        facts["version"] = PLATFORM_VERSION
        facts["task"] = ask.task
        facts["classNames"] = [ask.labels[number] for number in sorted(ask.labels)]
    return facts


def _items(ask: YoloAsk, answer: Answer) -> list[Item]:
    wanted = ask.arguments
    style = Style(wanted.decimals, wanted.normalize, wanted.zero_hidden_keypoints, wanted.topk)
    written = flat_items if ask.shape == "l2" else items
    return written(answer.result, answer.image_hw, style)


def _legacy(ask: YoloAsk, answer: Answer) -> dict[str, Any]:
    return {"success": True, "message": DONE, "data": _items(ask, answer)}


def _encoded(ask: YoloAsk, whole: dict[str, Any]) -> bytes:
    """Sorted keys on HUB, as its clients saw them; the order of insertion elsewhere."""
    return (_plain if ask.shape == "platform" else _sorted).encode(whole)


def _line(ask: YoloAsk, whole: dict[str, Any], event: str) -> bytes:
    body = _encoded(ask, whole)
    return b"event: %b\ndata: %b\n\n" % (event.encode(), body) if ask.stream_type == EVENTS else body + b"\n"


def _headers(ask: YoloAsk, answers: Sequence[Answer]) -> tuple[tuple[str, str], ...]:
    """The size at which the network ran, as HEIGHTxWIDTH, and what of the request was not understood."""
    headers = []
    if answers and answers[0].input_hw is not None:
        headers.append(("X-Imgsz", "{}x{}".format(*answers[0].input_hw)))
    if ask.ignored:
        headers.append(("X-Ignored-Arguments", ", ".join(ask.ignored)))
    return tuple(headers)


def _depth(depth: NDArray[np.float32], bits: int) -> dict[str, Any]:
    """A grey PNG as the Platform documents it: depth = pixel * max / 255, or 65535 in one of 16 bits, and 0 is none.

    Twelve bits are as many steps of the whole range of 16.
    """
    known = np.isfinite(depth) & (depth > 0)
    low, high = (float(depth[known].min()), float(depth[known].max())) if known.any() else (0.0, 0.0)
    steps, white, kind = 2**bits - 1, WHITE if bits == 8 else WHITE_16, np.uint8 if bits == 8 else np.uint16
    # What is nearest is seen all the same, so that it is never nothing.
    parts = np.maximum(np.rint(np.where(known, depth, high) / (high or 1.0) * steps), 1) / steps
    pixels = np.where(known, np.rint(parts * white), 0).astype(kind)
    return {"shape": list(depth.shape), "encoding": "png", "data": _png(pixels), "min": low, "max": high, "bits": bits}


def _semantic(masks: Masks, decimals: int | None) -> dict[str, Any]:
    """A picture of class ids, and per class its share of the pixels; 255 (or 65535) marks pixels of no class."""
    image_hw = masks.rles[0].size if masks.rles else masks.grid.image_hw
    small = bool((masks.class_ids < NO_CLASS).all())
    picture = np.full(image_hw, NO_CLASS if small else 65535, np.uint8 if small else np.uint16)
    results = []
    for name, number, rle in zip(masks.names, masks.class_ids.tolist(), masks.rles, strict=True):
        inside = _inside(rle.counts, image_hw)
        picture[inside] = number
        share = float(np.count_nonzero(inside)) / max(inside.size, 1)
        results.append(
            {"name": name, "class": number, "pixel_ratio": round(share, 5 if decimals is None else decimals)}
        )
    mask = {"shape": list(image_hw), "encoding": "png", "data": _png(picture)}
    return {"results": results, "semantic_mask": mask}


def _inside(counts: Sequence[int], image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    lengths: IntArray = np.asarray(counts, np.int32)
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape(image_hw[1], image_hw[0]).T


def _png(pixels: NDArray[Any]) -> str:
    return base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()
