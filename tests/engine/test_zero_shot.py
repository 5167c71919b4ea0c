"""A model that is told what to look for, behind the engine: labels are part of the question; both graphs are warm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.families import colours

from saccade.call import Answer, Call, Options
from saccade.card import Card
from saccade.engine import Engine, Rules
from saccade.engine.golden import jpeg
from saccade.engine.replica import Duty, Replica
from saccade.errors import BadOptions, RunFailed
from saccade.results import Labels
from saccade.runtimes.session import Compute

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Shelf:
    """A library of one model."""

    def __init__(self, card: Card) -> None:
        self.found = card

    def card(self, ref: str) -> Card:
        return self.found


def photo(red: int, green: int, blue: int) -> bytes:
    return jpeg(np.full((40, 40, 3), (red, green, blue), np.uint8))


def call(media: bytes, *labels: str, **more: Any) -> Call:
    return Call(model="colours", media=media, options=Options(candidate_labels=labels or None), **more)


def best(answer: Answer) -> str:
    assert isinstance(answer.result, Labels)
    return answer.result.names[0]


def test_the_same_picture_is_asked_about_different_labels(tmp_path: Path, isolate: bool, run: Run) -> None:
    async def main() -> None:
        engine = Engine(Shelf(colours.card(tmp_path)), Rules(threads=1, isolate=isolate))
        await engine.start()
        try:
            red = photo(250, 120, 10)
            asked = [("red", "blue"), ("blue", "green"), ("green", "red"), ("red", "blue")]
            answers = [await engine.predict(call(red, *labels, use_cache=True)) for labels in asked]
            assert [best(answer) for answer in answers] == ["red", "green", "red", "red"]
            assert [answer.cached for answer in answers] == [False, False, False, True]
            with pytest.raises(BadOptions, match="looks for what it is told"):
                await engine.predict(call(red))
        finally:
            await engine.close()

    run(main())


def test_calls_with_different_labels_share_a_batch(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        engine = Engine(Shelf(colours.card(tmp_path)), Rules(threads=1, isolate=False, max_batch=4))
        await engine.start()
        try:
            names = ("red", "green", "blue")
            calls = [
                call(photo(*(240 if name == shown else 15 for name in names)), *names[turn:], *names[:turn])
                for shown in names
                for turn in range(3)
            ]
            largest = 1
            for _ in range(50):
                answers = await asyncio.gather(*map(engine.predict, calls))
                assert [best(answer) for answer in answers] == ["red"] * 3 + ["green"] * 3 + ["blue"] * 3
                largest = max(largest, *(answer.batch_size for answer in answers))
            assert largest > 1
        finally:
            await engine.close()

    run(main())


def test_a_replica_has_tried_both_graphs_when_it_is_ready(tmp_path: Path) -> None:
    card = colours.card(tmp_path)
    replica = Replica(card, Compute(threads=1), Duty(max_batch=4))
    try:
        assert replica.batch == 4
        assert replica.check() is None
    finally:
        replica.close()
    mute = msgspec.structs.replace(card, config={**card.config, "text": {"inputs": ["input_ids"], "longest": 12}})
    with pytest.raises(RunFailed, match="needs an input 'attention_mask'"):
        Replica(mute, Compute(threads=1), Duty())
