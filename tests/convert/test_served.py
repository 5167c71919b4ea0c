"""A checkpoint in a folder is converted when it is first asked for, and other models do not wait for it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.convert.graphs import Graphs

from saccade.call import Call
from saccade.engine.engine import Engine
from saccade.engine.rules import Rules
from saccade.library import Library
from saccade.results import Boxes

pytestmark = pytest.mark.heavy


def test_a_checkpoint_is_converted_on_first_use_while_others_answer(data: Path, graphs: Graphs, tmp_path: Path) -> None:
    tiny = data / "models" / "hf-tiny"
    graphs.converted(tiny / "vit")
    card = graphs.card(tiny / "yolos")
    graphs.converter.forget(card)
    library = Library(tmp_path, [tiny], (), graphs.converter)
    assert library.card("yolos").runtime == "torch"
    photo = (data / "images" / "tiny" / "a.png").read_bytes()

    async def house() -> tuple[float, float]:
        engine = Engine(library, Rules(isolate=False, precision="f32"))
        await engine.start()
        try:
            await engine.load("vit")
            slow = asyncio.create_task(engine.predict(Call(model="yolos", media=photo)))
            await asyncio.sleep(0.5)
            started = time.monotonic()
            assert engine.state("yolos") == "loading"
            await engine.predict(Call(model="vit", media=photo))
            quick = time.monotonic() - started
            assert not slow.done()
            answer = await slow
            assert isinstance(answer.result, Boxes)
            return quick, time.monotonic() - started
        finally:
            await engine.close()

    quick, slow = asyncio.run(house())
    assert quick < slow
    assert library.card("yolos").runtime == "openvino"
