"""A real model answers through a worker exactly as it does when it is called directly."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.engine.test_wire import equal

from saccade import media
from saccade.call import Call, Options
from saccade.card import Card
from saccade.engine import Engine, Rules
from saccade.library import Library
from saccade.model import Model
from saccade.results import MaskForm
from saccade.runtimes.session import Compute


@pytest.fixture
def photos(data: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((data / "images" / "coco").glob("*.jpg"))[:6]]


FORMS: tuple[MaskForm, ...] = ("polygon", "png", "rle")


def test_segments_come_out_of_a_worker_as_they_went_in(data: Path, photos: list[bytes], tmp_path: Path) -> None:
    library = Library(tmp_path, [data / "models"])
    card = library.card("yolo11n-seg")
    asked = [(photo, Options(conf=0.25, mask_form=form)) for form in FORMS for photo in photos[:4]]
    model = Model(card, Compute(precision="f32", threads=2, streams=2, lone=False))
    expected = [model.predict(media.decode(photo).rgb, options) for photo, options in asked]
    model.close()

    async def main() -> None:
        engine = Engine(library, Rules(threads=2, precision="f32", lone=False, max_batch=1))
        await engine.start()
        try:
            calls = (engine.predict(Call(model=card.name, media=photo, options=options)) for photo, options in asked)
            answers = await asyncio.gather(*calls)
        finally:
            await engine.close()
        for answer, right in zip(answers, expected, strict=True):
            assert equal(answer.result, right.result)
            assert (answer.image_hw, answer.input_hw, answer.model) == (right.image_hw, right.input_hw, right.model)

    asyncio.run(main())


def test_batches_of_a_free_graph_answer_as_singles_do(data: Path, photos: list[bytes], tmp_path: Path) -> None:
    library = Library(tmp_path, [data / "models"])
    card: Card = library.card("yolo11n")

    async def answers(batch: int) -> list[Any]:
        engine = Engine(library, Rules(threads=2, precision="f32", isolate=False, max_batch=batch, shapes=0))
        await engine.start()
        try:
            calls = [Call(model=card.name, media=photos[n % 2], options=Options(conf=0.25)) for n in range(12)]
            return await asyncio.gather(*(engine.predict(call) for call in calls))
        finally:
            await engine.close()

    singles, batches = asyncio.run(answers(1)), asyncio.run(answers(4))
    assert max(answer.batch_size for answer in batches) > 1
    for one, many in zip(singles, batches, strict=True):
        assert one.result.names == many.result.names
        assert abs(one.result.boxes_xyxy - many.result.boxes_xyxy).max() < 0.05
        assert abs(one.result.scores - many.result.scores).max() < 1e-3
