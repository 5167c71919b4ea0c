"""A server with the real HTTP surface and a made engine: ``python -m tests.clients.canned_house '{"port": 0, …}'``.

It decodes every picture for real and answers from its pixels, so that the same picture gets the same answer on every
way in. ``raises/NAME`` models fail with that error of the house; the model ``slow`` takes five seconds to load.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import cv2
import msgspec
import numpy as np

from saccade import errors, media
from saccade.call import Answer, Call, Options
from saccade.card import Card, Task
from saccade.meter import Timings
from saccade.results import Boxes, ByteArray, Grid, Labels, Masks, Result

MODELS: dict[str, Task] = {
    "facebook/detr-resnet-50": "detect",
    "google/vit-base-patch16-224": "classify",
    "facebook/mask2former-swin-large-coco-panoptic": "segment",
    "openmmlab/upernet-convnext-small": "segment",
    "openai/clip-vit-base-patch32": "zero-shot-classify",
    "yolo11n": "detect",
    "slow": "classify",
}
LOAD_S = 5.0


class CannedLibrary:
    """The names above, and one that fails for every error of the house."""

    def card(self, ref: str, *, fetch: bool = False) -> Card:
        task = MODELS.get(ref)
        if ref.startswith("raises/"):
            task = "classify"
        if task is None:
            raise errors.UnknownModel(f"There is no model '{ref}'. Add it with: saccade pull {ref}")
        return Card(name=ref, task=task, family="canned", runtime="canned", revision="r1")

    def cards(self) -> list[Card]:
        return [self.card(ref) for ref in MODELS]


class CannedEngine:
    """Answers from the picture's own pixels."""

    def __init__(self) -> None:
        self.cold = {"slow"}
        self.loading: asyncio.Task[None] | None = None
        self.kept: set[tuple[str, str, str]] = set()

    async def start(self) -> None: ...

    async def predict(self, call: Call) -> Answer:
        if call.model.startswith("raises/"):
            raise error_named(call.model.removeprefix("raises/"))
        await self._loaded(call)
        picture = media.decode(call.media)
        height, width = picture.rgb.shape[:2]
        key = (call.model, hashlib.sha256(call.media).hexdigest(), repr(call.options))
        hit = call.use_cache and key in self.kept
        if call.use_cache:
            self.kept.add(key)
        timings = Timings(decode_ms=1.0, inference_ms=12.0, postprocess_ms=0.4)
        result = result_of(MODELS[call.model], call.model, picture.rgb, call.options)
        return Answer(result=result, image_hw=(height, width), timings=timings, model=call.model, cached=hit)

    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        yield await self.predict(call)

    async def load(self, ref: str) -> None: ...

    def state(self, ref: str) -> str:
        return "cold" if ref in self.cold else "warm"

    def info(self) -> dict[str, Any]:
        return {"device": "cpu", "threads": 1, "models": []}

    async def drain(self) -> None: ...

    async def close(self) -> None: ...

    async def _loaded(self, call: Call) -> None:
        if call.model not in self.cold:
            return
        if not call.load_model:
            raise errors.StillLoading(f"Model {call.model} is not loaded.")
        self.loading = self.loading or asyncio.create_task(self._load(call.model))
        if not call.wait_for_model:
            raise errors.StillLoading(f"Model {call.model} is loading.", retry_after_s=LOAD_S)
        await asyncio.shield(self.loading)

    async def _load(self, ref: str) -> None:
        await asyncio.sleep(LOAD_S)
        self.cold.discard(ref)


def error_named(name: str) -> errors.Error:
    """The error of this class, with a text that tests look for."""
    kind = getattr(errors, name)
    if kind is errors.QuotaSpent:
        return errors.QuotaSpent("canned text", limit=500, retry_after_s=55, reset_epoch_s=2e9, window_s=300)
    found = kind("canned text")
    assert isinstance(found, errors.Error)
    return found


def result_of(task: Task, model: str, image_rgb: ByteArray, options: Options) -> Result:
    if task == "detect":
        return boxes_of(image_rgb, options)
    if task == "segment":
        return masks_of(image_rgb, options, semantic="upernet" in model or options.subtask == "semantic")
    names = options.candidate_labels or ("red things", "green things", "blue things")
    means = image_rgb.reshape(-1, 3).mean(axis=0) / 255
    scores = np.resize(means, len(names)).astype(np.float32)
    scores = scores if options.activation == "none" else (scores / scores.sum()).astype(np.float32)
    order = np.argsort(-scores, kind="stable")[: options.top_k]
    return Labels(order.astype(np.int32), scores[order], tuple(names[index] for index in order))


def boxes_of(image_rgb: ByteArray, options: Options) -> Boxes:
    """Three boxes in the order of "queries", not of scores; the last one always lies over the image's edge."""
    height, width = image_rgb.shape[:2]
    parts = np.array([[0.1, 0.2, 0.9, 0.8], [0.3, 0.3, 0.5, 0.5], [-0.01, 0.0, 1.01, 1.0]], np.float32)
    scores = np.array([0.9957962, 0.4, 0.9984], np.float32)
    keep = scores > (options.conf if options.conf is not None else 0.25)
    ids = np.array([17, 3, 63], np.int32)
    names = np.array(["cat", "car", "couch"])[keep]
    size = np.array([width, height, width, height], np.float32)
    return Boxes((parts * size)[keep], scores[keep], ids[keep], tuple(names.tolist()))


def masks_of(image_rgb: ByteArray, options: Options, *, semantic: bool) -> Masks:
    """The bright and the dark part of the picture."""
    height, width = image_rgb.shape[:2]
    bright = image_rgb.mean(axis=2) >= 128
    pngs = tuple(cv2.imencode(".png", (part * np.uint8(255)))[1].tobytes() for part in (bright, ~bright))
    scores = np.array([1.0, 1.0] if semantic else [0.98668413, 0.93], np.float32)
    keep = [index for index, score in enumerate(scores) if semantic or score > (options.conf or 0.0)]
    return Masks(
        boxes_xyxy=np.zeros((len(keep), 4), np.float32),
        scores=scores[keep],
        class_ids=np.array(keep, np.int32),
        names=tuple(("wall", "floor")[index] for index in keep),
        kind="semantic" if semantic else "panoptic",
        grid=Grid(height, width, 1.0, 1.0, 0.0, 0.0, (height, width)),
        areas=np.array([bright.sum(), (~bright).sum()], np.int32)[keep],
        form="png",
        pngs=tuple(pngs[index] for index in keep),
    )


def main() -> None:
    from saccade.server import run
    from saccade.server.settings import Settings

    settings = msgspec.convert(json.loads(sys.argv[1]), Settings)
    run.serve(settings, library=CannedLibrary(), engine=CannedEngine())  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
