"""The engine through its public door, in one process and with workers."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes.util
import gc
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.engine.shelf import Shelf, picture, running

from saccade import media
from saccade.call import Answer, Call, Clip, Options
from saccade.card import Card
from saccade.engine import Engine, Rules, residency
from saccade.engine import engine as engine_module
from saccade.engine.resident import Resident
from saccade.errors import (
    BadInput,
    BadSettings,
    CorruptFiles,
    DeadlinePassed,
    Overloaded,
    RunFailed,
    StillLoading,
    Stopped,
    UnknownModel,
    WrongTask,
)
from saccade.results import Boxes
from saccade.runtimes import simulated

Run = Callable[[Any], Any]


def call(model: str = "m", brightness: int = 100, **given: Any) -> Call:
    return Call(model=model, media=picture(brightness), **given)


def brightness(answer: Answer) -> int:
    assert isinstance(answer.result, Boxes)
    return round(float(answer.result.scores[0]) * 255)


async def settled(engine: Engine) -> None:
    """Waits until nothing is queued or in flight."""
    while any(model["queued"] + model["in_flight"] for model in engine.info()["models"]):
        await asyncio.sleep(0.01)


def counted(engine: Engine, *names: str) -> tuple[int, ...]:
    """How often each of these happened to calls of the only model."""
    facts = engine.info()["models"][0]
    return tuple(facts[name] for name in names)


def test_every_caller_gets_the_answer_to_its_own_image(run: Run, isolate: bool) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 1}), isolate=isolate) as engine:
            answers = await asyncio.gather(*(engine.predict(call(brightness=n)) for n in range(40)))
            assert [brightness(answer) for answer in answers] == list(range(40))
            assert answers[0].model == "m"
            assert answers[0].image_hw == (4, 4)

    run(main())


def test_a_picture_is_drawn_for_who_asks_for_it_alone(run: Run, isolate: bool) -> None:
    async def main() -> None:
        async with running(Shelf(m={}), isolate=isolate) as engine:
            drawn, plain = [await engine.predict(call(annotate=wanted)) for wanted in (True, False)]
            assert plain.annotated is None
            assert media.decode(drawn.annotated or b"").rgb.shape == (4, 4, 3)

    run(main())


def test_a_model_is_loaded_once_however_many_ask_for_it(run: Run, isolate: bool) -> None:
    async def main() -> None:
        async with running(Shelf(m={"load_ms": 300}), isolate=isolate) as engine:
            assert engine.state("m") == "cold"
            calls = [asyncio.create_task(engine.predict(call())) for _ in range(10)]
            while engine.state("m") == "cold":
                await asyncio.sleep(0.005)
            assert engine.state("m") == "loading"
            await asyncio.gather(*calls)
            assert engine.state("m") == "warm"
            assert engine.info()["loads"] == 1

    run(main())


def test_a_model_that_is_put_away_while_it_is_opened_here_leaves_no_threads(run: Run) -> None:
    """A thread that opens a model cannot be cut short; what it opened was never closed."""

    async def main() -> None:
        async with running(Shelf(late={"load_ms": 500}), isolate=False) as engine:
            loading = asyncio.create_task(engine.load("late"))
            await asyncio.sleep(0.2)
            assert await engine.unload("late")
            with pytest.raises(Stopped):
                await loading
            await asyncio.sleep(1.0)
            assert [one.name for one in threading.enumerate() if "late" in one.name] == []

    run(main())


def test_an_answer_tells_how_long_it_waited_for_its_model(run: Run, isolate: bool) -> None:
    async def main() -> None:
        async with running(Shelf(m={"load_ms": 300}), isolate=isolate) as engine:
            first, second = await engine.predict(call()), await engine.predict(call())
            assert first.timings.load_ms >= 300
            assert second.timings.load_ms < 100
            assert first.timings.queue_ms < 100

    run(main())


def test_a_bad_image_fails_alone(run: Run, isolate: bool) -> None:
    async def main() -> None:
        async with running(Shelf(m={}), isolate=isolate) as engine:
            bad = engine.predict(Call(model="m", media=b"this is no picture"))
            good = [engine.predict(call(brightness=n)) for n in range(8)]
            first, *rest = await asyncio.gather(bad, *good, return_exceptions=True)
            assert isinstance(first, BadInput)
            assert [brightness(answer) for answer in rest if isinstance(answer, Answer)] == list(range(8))

    run(main())


def test_a_model_that_fails_on_one_image_answers_the_others(run: Run, isolate: bool) -> None:
    async def main() -> None:
        async with running(Shelf(m={"fail_above": 200}), isolate=isolate) as engine:
            bright, dark = await asyncio.gather(
                engine.predict(call(brightness=250)), engine.predict(call(brightness=10)), return_exceptions=True
            )
            assert isinstance(bright, RunFailed)
            assert isinstance(dark, Answer)

    run(main())


def test_batches_answer_as_singles_do_and_one_bad_image_spoils_nobodys(run: Run, isolate: bool) -> None:
    async def main() -> None:
        library = Shelf(m={"ms": 10, "parallel": 1, "fail_above": 200})
        async with running(library, isolate=isolate, max_batch=8) as engine:
            levels = [*range(0, 160, 10), 250]
            answers = await asyncio.gather(
                *(engine.predict(call(brightness=n)) for n in levels), return_exceptions=True
            )
            assert isinstance(answers[-1], RunFailed)
            assert [brightness(answer) for answer in answers[:-1] if isinstance(answer, Answer)] == levels[:-1]
            assert max(engine.info()["models"][0]["batch_sizes"]) > 1

    run(main())


def test_a_full_line_refuses_at_once_and_says_when_to_come_back(run: Run, isolate: bool) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 100}), isolate=isolate, queue_calls=4) as engine:
            await engine.load("m")
            calls = [asyncio.create_task(engine.predict(call(brightness=n))) for n in range(30)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            refused = [error for error in results if isinstance(error, Overloaded)]
            assert len(refused) == 30 - 4 - 4  # the slots of two streams, and the line
            assert all(0 < error.retry_after_s < 10 for error in refused)
            assert sum(isinstance(answer, Answer) for answer in results) == 8

    run(main())


def test_a_dry_run_counts_refusals_and_refuses_nobody(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 5}), isolate=False, queue_calls=2, dry_run=True) as engine:
            await engine.load("m")
            answers = await asyncio.gather(*(engine.predict(call(brightness=n)) for n in range(20)))
            assert [brightness(answer) for answer in answers] == list(range(20))
            assert engine.info()["models"][0]["would_refuse"] > 0

    run(main())


def test_a_call_that_would_be_late_is_refused_instead_of_kept(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 50}), isolate=False) as engine:
            await engine.predict(call())
            calls = [asyncio.create_task(engine.predict(call())) for _ in range(40)]
            await asyncio.sleep(0.02)
            with pytest.raises(Overloaded, match="before yours"):
                await engine.predict(call(deadline=time.monotonic() + 0.1))
            await asyncio.gather(*calls)

    run(main())


def test_a_deadline_ends_a_call_that_waits_and_one_that_runs(run: Run, isolate: bool) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 300}), isolate=isolate) as engine:
            await engine.load("m")
            calls = [engine.predict(call(deadline=time.monotonic() + 0.15)) for _ in range(8)]
            begun = time.monotonic()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(error, DeadlinePassed) for error in results)
            assert time.monotonic() - begun < 1.0
            await settled(engine)
            assert brightness(await engine.predict(call(brightness=7))) == 7

    run(main())


def test_a_caller_that_leaves_frees_its_place_and_disturbs_nobody(run: Run, isolate: bool) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 50}), isolate=isolate) as engine:
            await engine.load("m")
            calls = [asyncio.create_task(engine.predict(call(brightness=n))) for n in range(20)]
            await asyncio.sleep(0.02)
            for task in calls[::2]:
                task.cancel()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(error, asyncio.CancelledError) for error in results[::2])
            assert [brightness(answer) for answer in results[1::2] if isinstance(answer, Answer)] == list(
                range(1, 20, 2)
            )
            await settled(engine)
            facts = engine.info()["models"][0]
            assert facts["cancelled"] == 10
            assert facts["answered"] == 10

    run(main())


def test_callers_take_turns_and_priorities_go_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    device = threading.Event()
    monkeypatch.setattr(simulated, "time", SimpleNamespace(sleep=lambda _seconds: device.wait(20)))
    order: list[str] = []
    send = Resident._send

    def noted(resident: Resident, link: Any, entry: Any) -> None:
        order.append(entry.call.caller)
        send(resident, link, entry)

    async def main() -> None:
        async with running(Shelf(m={"ms": 1, "parallel": 1}), isolate=False, threads=1) as engine:
            device.set()
            await engine.load("m")
            device.clear()
            monkeypatch.setattr(Resident, "_send", noted)

            def called(caller: str, priority: int = 0) -> asyncio.Task[Answer]:
                return asyncio.create_task(engine.predict(call(caller=caller, priority=priority)))

            greedy = [called("greedy") for _ in range(20)]
            await asyncio.sleep(0)
            modest = [called("modest") for _ in range(3)]
            urgent = called("urgent", priority=1)
            while sum(model["queued"] + model["in_flight"] for model in engine.info()["models"]) < 24:
                await asyncio.sleep(0.01)
            device.set()  # all are there, so that only the line's own order is left
            await asyncio.gather(*greedy, *modest, urgent)

    run(main())
    # Those that run already, and one that waits inside the replica, cannot be overtaken.
    assert order.index("urgent") <= 5
    assert [index for index, caller in enumerate(order) if caller == "modest"][-1] <= 12


def test_a_call_goes_to_the_replica_that_will_be_free_first(run: Run) -> None:
    async def main() -> None:
        behaviour = {"ms": 1000, "parallel": 1}
        async with running(Shelf(m=behaviour), isolate=False, threads=1, replicas=2) as engine:
            await engine.load("m")

            def taken() -> list[int]:
                return [replica["in_flight"] for replica in engine.info()["models"][0]["replicas"]]

            calls = []
            # The first replica gets a call, the second one a little later; the first is done first and gets a new one.
            for pause_s, expected in ((0.5, [1, 0]), (0.7, [1, 1]), (0.0, [1, 1]), (0.0, [1, 2]), (0.0, [2, 2])):
                calls.append(asyncio.create_task(engine.predict(call())))
                await asyncio.sleep(0.01)
                assert taken() == expected
                await asyncio.sleep(pause_s)
            await asyncio.gather(*calls)

    run(main())


def test_one_caller_cannot_fill_the_whole_line(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 50}), isolate=False, queue_calls=8) as engine:
            await engine.load("m")
            greedy = [asyncio.create_task(engine.predict(call(caller="greedy"))) for _ in range(30)]
            await asyncio.sleep(0.01)
            assert brightness(await engine.predict(call(caller="modest", brightness=9))) == 9
            results = await asyncio.gather(*greedy, return_exceptions=True)
            assert any(isinstance(error, Overloaded) for error in results)

    run(main())


def test_a_cold_model_is_named_as_loading_to_those_who_do_not_wait(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"load_ms": 200}), isolate=False) as engine:
            with pytest.raises(StillLoading, match="not loaded"):
                await engine.predict(call(load_model=False))
            assert engine.state("m") == "cold"
            with pytest.raises(StillLoading) as raised:
                await engine.predict(call(wait_for_model=False))
            assert raised.value.retry_after_s > 0
            await asyncio.sleep(0.05)
            with pytest.raises(StillLoading, match="not loaded") as later:
                await engine.predict(call(load_model=False))
            assert later.value.retry_after_s <= raised.value.retry_after_s - 0.05
            with pytest.raises(StillLoading, match="longer than the call may"):
                await engine.predict(call(deadline=time.monotonic() + 0.02))
            await engine.predict(call())
            assert engine.info()["loads"] == 1

    run(main())


def test_unknown_models_and_wrong_tasks_are_refused(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={}), isolate=False) as engine:
            with pytest.raises(UnknownModel):
                await engine.predict(call("nobody"))
            with pytest.raises(WrongTask, match="detect"):
                await engine.predict(call(task="classify"))

    run(main())


def test_a_model_that_cannot_be_opened_says_why_and_is_not_tried_for_every_call(run: Run, isolate: bool) -> None:
    async def main() -> None:
        library = Shelf(m={"corrupt": True, "load_ms": 0})
        async with running(library, isolate=isolate) as engine:
            for _ in range(3):
                with pytest.raises(CorruptFiles, match="corrupt"):
                    await engine.predict(call())
            assert engine.state("m") == "failed"
            (failed,) = engine.info()["failed_models"]
            assert (failed["name"], "corrupt" in failed["reason"]) == ("m", True)
            library.put("m", {}, revision="2")
            await asyncio.sleep(1.1)
            with contextlib.suppress(CorruptFiles):
                await engine.predict(call())  # notices the new files, perhaps only behind this caller's back
            await asyncio.sleep(0.5)
            assert brightness(await engine.predict(call())) == 100
            assert engine.info()["failed_models"] == []

    run(main())


def test_who_loads_a_model_that_failed_a_moment_ago_has_it_tried_again(run: Run) -> None:
    async def main() -> None:
        library = Shelf(m={"corrupt": True, "load_ms": 0})
        async with running(library, isolate=False) as engine:
            with pytest.raises(CorruptFiles):
                await engine.load("m")
            library.put("m", {})  # what it lacked is there now, and none of its files changed
            await asyncio.sleep(1.1)
            with pytest.raises(CorruptFiles):
                await engine.predict(call())
            await engine.load("m")
            assert brightness(await engine.predict(call())) == 100

    run(main())


def test_the_same_question_is_answered_from_the_cache_if_the_caller_allows(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={}), isolate=False, cache_bytes=1 << 20) as engine:
            assert not (await engine.predict(call(use_cache=True))).cached
            hit = await engine.predict(call(use_cache=True))
            assert hit.cached
            assert brightness(hit) == 100
            assert not (await engine.predict(call())).cached
            assert not (await engine.predict(call(use_cache=True, brightness=101))).cached
            assert not (await engine.predict(call(use_cache=True, options=Options(conf=0.1)))).cached
            assert engine.info()["models"][0]["answered"] == 4

    run(main())


def test_changed_files_are_not_answered_from_the_cache(run: Run) -> None:
    async def main() -> None:
        library = Shelf(m={})
        async with running(library, isolate=False, cache_bytes=1 << 20) as engine:
            await engine.predict(call(use_cache=True))
            library.put("m", {}, revision="2")
            await asyncio.sleep(1.1)
            await engine.predict(call())
            await asyncio.sleep(0.1)
            assert not (await engine.predict(call(use_cache=True))).cached

    run(main())


def test_files_that_are_replaced_while_they_are_opened_are_opened_again(run: Run) -> None:
    async def main() -> None:
        library = Shelf(m={"load_ms": 400})
        async with running(library, isolate=False, cache_bytes=1 << 20) as engine:
            asked = asyncio.create_task(engine.predict(call(use_cache=True)))
            await asyncio.sleep(0.2)
            library.put("m", {}, revision="2")
            assert (await asked).revision == "2"
            library.put("m", {}, revision="1")
            await asyncio.sleep(1.1)
            assert not (await engine.predict(call(use_cache=True))).cached, "nothing was kept for the former files"

    run(main())


def test_files_that_are_replaced_while_they_are_loaded_are_loaded_again(run: Run) -> None:
    async def main() -> None:
        library = Shelf(m={"load_ms": 400})
        async with running(library, isolate=False) as engine:
            loading = asyncio.create_task(engine.load("m"))
            await asyncio.sleep(0.2)
            library.put("m", {}, revision="2")
            assert (await loading).revision == "2"
            assert engine.state("m") == "warm"

    run(main())


def test_files_of_another_task_that_come_while_a_model_is_opened_get_no_call_for_the_former(run: Run) -> None:
    async def main() -> None:
        library = Shelf(m={"load_ms": 400})
        async with running(library, isolate=False) as engine:
            asked = asyncio.create_task(engine.predict(call(task="detect")))
            await asyncio.sleep(0.2)
            library.put("m", {}, revision="2")
            card = library.cards_by_name["m"]
            library.cards_by_name["m"] = msgspec.structs.replace(card, task="classify")
            with pytest.raises(WrongTask):
                await asked

    run(main())


def test_a_model_whose_files_are_mended_while_they_are_opened_has_not_failed(run: Run) -> None:
    async def main() -> None:
        library = Shelf(m={"fail_above": -1.0, "load_ms": 400})
        async with running(library, isolate=False) as engine:
            asked = asyncio.create_task(engine.predict(call()))
            await asyncio.sleep(0.2)
            library.put("m", {}, revision="2")
            assert (await asked).revision == "2"

    run(main())


def test_changed_files_are_loaded_while_the_old_ones_serve(run: Run, isolate: bool) -> None:
    async def main() -> None:
        library = Shelf(m={"ms": 5})
        async with running(library, isolate=isolate) as engine:
            assert (await engine.predict(call())).revision == "1"
            library.put("m", {"ms": 5, "load_ms": 200}, revision="2")
            seen: list[str] = []
            until = time.monotonic() + 10
            while "2" not in seen and time.monotonic() < until:
                seen.append((await engine.predict(call())).revision)
            assert seen[-1] == "2"
            assert sorted(seen) == seen
            assert engine.info()["resident_models"] == 1

    run(main())


def test_the_model_used_longest_ago_makes_room(run: Run) -> None:
    async def main() -> None:
        library = Shelf(a={"mib": 60}, b={"mib": 60}, c={"mib": 60})
        need = 350 << 20
        async with running(library, isolate=True, memory_bytes=need, min_residency_s=0) as engine:
            for name in ("a", "b", "a", "c"):
                await engine.predict(call(name))
            assert engine.state("b") == "cold"
            assert engine.state("c") == "warm"
            assert engine.info()["evictions"] >= 1
            assert engine.info()["resident_bytes"] <= need

    run(main())


def test_a_model_that_is_idle_makes_room_before_one_that_works(run: Run) -> None:
    async def main() -> None:
        library = Shelf(a={"mib": 60, "hang_after": 2}, b={"mib": 60}, c={"mib": 60})
        rules = {"memory_bytes": 350 << 20, "min_residency_s": 0, "hang_s": 600.0, "check_s": 0.0}
        async with running(library, isolate=True, **rules) as engine:
            await engine.load("a")
            works = asyncio.create_task(engine.predict(call("a")))  # until it is ended
            while not engine.info()["in_flight_calls"]:
                await asyncio.sleep(0.01)
            worker = engine.info()["models"][0]["replicas"][0]["pid"]
            await engine.predict(call("b"))
            await engine.predict(call("c"))
            assert (engine.state("a"), engine.state("b")) == ("warm", "cold")
            assert not works.done()
            works.cancel()
            os.kill(worker, signal.SIGKILL)

    run(main())


def test_a_model_larger_than_the_memory_for_models_is_opened_alone(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(a={}), isolate=False, memory_bytes=1) as engine:
            assert brightness(await engine.predict(call("a"))) == 100

    run(main())


def test_a_model_that_leaves_holds_its_memory_until_it_has_left(
    run: Run, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    monkeypatch.setattr(residency, "LEAVE_S", 0.2)
    film = (data / "videos" / "car-detection.mp4").read_bytes()

    async def main() -> None:
        library = Shelf(a={"mib": 100})
        library.put("b", {}, size_bytes=40 << 20)
        async with running(library, memory_bytes=450 << 20) as engine:
            film_of_a = engine.stream(Call(model="a", media=film, clip=Clip()))
            await anext(film_of_a)
            once = engine.info()["resident_bytes"]
            library.put("a", {"mib": 100}, revision="2")
            await asyncio.sleep(1.1)
            while (await engine.predict(call("a"))).revision == "1":
                await asyncio.sleep(0.05)
            assert engine.info()["resident_bytes"] > 1.7 * once
            assert engine.info()["in_flight_calls"] == 1
            with pytest.raises(Overloaded, match="no room"):
                await engine.predict(call("b"))
            await film_of_a.aclose()
            assert (await engine.predict(call("b"))).model == "b"

    run(main())


def test_a_model_that_still_answers_a_video_holds_no_other_model_up(
    run: Run, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    monkeypatch.setattr(residency, "LEAVE_S", 0.2)
    film = (data / "videos" / "car-detection.mp4").read_bytes()

    async def main() -> None:
        library = Shelf(a={"mib": 100})
        library.put("large", {}, size_bytes=100 << 20)
        library.put("small", {}, size_bytes=1)
        async with running(library, memory_bytes=450 << 20, min_residency_s=0) as engine:
            film_of_a = engine.stream(Call(model="a", media=film, clip=Clip()))
            await anext(film_of_a)
            with pytest.raises(Overloaded, match="no room"):
                await asyncio.wait_for(engine.predict(call("large")), 5)
            assert (await asyncio.wait_for(engine.predict(call("small")), 5)).model == "small"
            await film_of_a.aclose()
            assert (await engine.predict(call("large"))).model == "large"

    run(main())


@pytest.mark.parametrize("others", [True, False])
def test_a_load_that_nobody_waits_for_any_more_gives_way_to_those_that_somebody_waits_for(
    run: Run, others: bool
) -> None:
    async def main() -> None:
        async with running(Shelf(a={"load_ms": 600}, b={}, c={}), isolate=False) as engine:
            first = asyncio.create_task(engine.predict(call("a")))
            await asyncio.sleep(0.1)
            with pytest.raises(StillLoading):
                await engine.predict(call("b", deadline=time.monotonic() + 0.1))
            if others:
                assert (await engine.predict(call("c"))).model == "c"
            await first
            while engine.state("b") == "loading":
                await asyncio.sleep(0.01)
            assert engine.state("b") == ("cold" if others else "warm")
            assert (await engine.predict(call("b"))).model == "b"

    run(main())


def test_nothing_leaves_for_a_load_that_nobody_waits_for_any_more(run: Run) -> None:
    async def main() -> None:
        library = Shelf(used={"mib": 100})
        library.put("slow", {"load_ms": 600}, size_bytes=1)
        library.put("late", {}, size_bytes=100 << 20)
        async with running(library, memory_bytes=450 << 20, min_residency_s=0) as engine:
            await engine.predict(call("used"))
            first = asyncio.create_task(engine.predict(call("slow")))
            await asyncio.sleep(0.1)
            with pytest.raises(StillLoading):
                await engine.predict(call("late", deadline=time.monotonic() + 0.1))
            await first
            while engine.state("late") == "loading":
                await asyncio.sleep(0.01)
            assert (engine.state("late"), engine.state("used")) == ("cold", "warm")

    run(main())


def test_a_pinned_or_fresh_model_does_not_leave(run: Run) -> None:
    async def main() -> None:
        library = Shelf()
        for name in ("a", "b"):
            library.put(name, {}, size_bytes=100 << 20)
        rules = {"memory_bytes": 400 << 20, "pins": ("a",), "min_residency_s": 30.0}
        async with running(library, isolate=False, **rules) as engine:
            assert engine.state("a") == "warm"
            with pytest.raises(Overloaded, match=r"no room .* preloaded and stay: .* 400 MiB\. Raise") as raised:
                await engine.predict(call("b"))
            assert raised.value.retry_after_s > 1
            assert engine.state("b") == "cold", "nothing is wrong with it"
            assert engine.info()["failed_models"] == []
            await engine.predict(call("a"))

    run(main())


def test_a_model_in_torch_needs_room_for_torch_too(run: Run) -> None:
    async def main() -> None:
        library = Shelf(a={}, b={})
        library.cards_by_name["b"] = msgspec.structs.replace(library.cards_by_name["b"], runtime="torch")
        async with running(library, isolate=False, memory_bytes=450 << 20, pins=("a",)) as engine:
            with pytest.raises(Overloaded, match="no room"):
                await engine.predict(call("b"))

    run(main())


def test_every_replica_of_a_model_that_was_never_open_needs_room(run: Run) -> None:
    async def main() -> None:
        rules = {"memory_bytes": 300 << 20, "pins": ("a",)}
        for replicas in (1, 3):
            async with running(Shelf(a={}, b={}), isolate=False, replicas=replicas, **rules) as engine:
                if replicas == 1:
                    assert (await engine.predict(call("b"))).model == "b"
                    continue
                with pytest.raises(Overloaded, match="no room"):
                    await engine.predict(call("b"))

    run(main())


def test_a_preloaded_model_that_is_missing_stops_the_start(run: Run) -> None:
    async def main() -> None:
        engine = Engine(Shelf(), _rules(pins=("nobody",)))
        with pytest.raises(BadSettings, match="nobody"):
            await engine.start()
        await engine.close()

    run(main())


@pytest.mark.skipif(ctypes.util.find_library("cuda") is not None, reason="this machine has a driver")
def test_preloaded_models_that_do_not_fit_together_stop_the_start_with_the_budget(run: Run) -> None:
    async def main() -> None:
        library = Shelf()
        for name in ("a", "b"):
            library.put(name, {}, size_bytes=100 << 20)
        with pytest.raises(BadSettings, match=r"'b'.* may hold 400 MiB\. Raise 'memory_bytes'"):
            async with running(library, isolate=False, memory_bytes=400 << 20, pins=("a", "b")):
                pass

    run(main())


def test_the_load_of_the_machine_is_told_as_it_is_now(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with running(Shelf(), isolate=False) as engine:
            monkeypatch.setattr("os.getloadavg", lambda: (7.5, 0.0, 0.0))
            assert engine.info()["machine_load"] == 7.5

    run(main())


def test_a_server_for_a_card_does_not_start_without_a_driver(run: Run) -> None:
    async def main() -> None:
        engine = Engine(Shelf(), _rules(device="cuda"))
        with pytest.raises(BadSettings, match=r"no NVIDIA driver.*--device cpu"):
            await engine.start()
        await engine.close()

    run(main())


def test_unloading_finishes_what_was_accepted(run: Run, isolate: bool) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 30}), isolate=isolate) as engine:
            await engine.load("m")
            calls = [asyncio.create_task(engine.predict(call(brightness=n))) for n in range(10)]
            await asyncio.sleep(0.01)
            assert await engine.unload("m")
            answers = await asyncio.gather(*calls)
            assert [brightness(answer) for answer in answers] == list(range(10))
            assert engine.state("m") == "cold"
            assert not await engine.unload("m")

    run(main())


def test_draining_finishes_what_was_accepted_and_takes_no_more(run: Run, isolate: bool) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 30, "load_ms": 100}), isolate=isolate) as engine:
            calls = [asyncio.create_task(engine.predict(call(brightness=n))) for n in range(10)]
            while engine.state("m") == "cold":  # they are looking it up, and not accepted yet
                await asyncio.sleep(0.001)
            draining = asyncio.create_task(engine.drain())
            await asyncio.sleep(0)
            with pytest.raises(Stopped):
                await engine.predict(call())
            answers = await asyncio.gather(*calls)
            await draining
            assert [brightness(answer) for answer in answers] == list(range(10))

    run(main())


def test_closing_answers_those_who_still_wait(run: Run, isolate: bool) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 300}), isolate=isolate) as engine:
            await engine.load("m")
            calls = [asyncio.create_task(engine.predict(call())) for _ in range(10)]
            await asyncio.sleep(0.05)
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(error, Stopped) for error in results)

    run(main())


def test_a_video_is_answered_frame_by_frame_in_order(run: Run, isolate: bool, data: Path) -> None:
    film = (data / "videos" / "synthetic_12frames_160x120.mp4").read_bytes()

    async def main() -> None:
        async with running(Shelf(m={"ms": 2}), isolate=isolate) as engine:
            answers = [answer async for answer in engine.stream(Call(model="m", media=film, clip=Clip()))]
            assert len(answers) == 12
            assert answers[0].image_hw == (120, 160)
            some = [answer async for answer in engine.stream(Call(model="m", media=film, clip=Clip(stride=5)))]
            assert len(some) == 2
            with pytest.raises(BadInput):
                async for _ in engine.stream(Call(model="m", media=b"no film", clip=Clip())):
                    pass

    run(main())


def test_a_video_may_take_longer_than_an_image(run: Run, data: Path) -> None:
    film = (data / "videos" / "synthetic_12frames_160x120.mp4").read_bytes()

    async def main() -> None:
        async with running(Shelf(m={"ms": 60}), isolate=False, request_timeout_s=0.2) as engine:
            await engine.load("m")
            assert len([answer async for answer in engine.stream(Call(model="m", media=film, clip=Clip()))]) == 12

    run(main())


def test_a_reader_of_a_video_that_leaves_stops_it(run: Run, isolate: bool, data: Path) -> None:
    film = (data / "videos" / "car-detection.mp4").read_bytes()

    async def main() -> None:
        async with running(Shelf(m={"ms": 1}), isolate=isolate) as engine:
            stream = engine.stream(Call(model="m", media=film, clip=Clip()))
            await anext(stream)
            await stream.aclose()
            await asyncio.wait_for(settled(engine), 5)
            assert counted(engine, "cancelled", "answered") == (1, 0)
            assert brightness(await engine.predict(call(brightness=3))) == 3

    run(main())


def test_a_video_for_which_the_system_gives_no_thread_is_refused_and_keeps_no_place(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = (data / "videos" / "synthetic_12frames_160x120.mp4").read_bytes()
    begin = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name.startswith("clip"):
            raise RuntimeError("can't start new thread")
        begin(thread)

    async def main() -> None:
        async with running(Shelf(m={}), isolate=False) as engine:
            await engine.load("m")
            with monkeypatch.context() as short:
                short.setattr(threading.Thread, "start", refused)
                for _ in range(3):
                    with pytest.raises(Overloaded, match="threads"):
                        async for _ in engine.stream(Call(model="m", media=film, clip=Clip())):
                            pass
            assert counted(engine, "queued", "in_flight", "failed") == (0, 0, 3)
            assert len([one async for one in engine.stream(Call(model="m", media=film, clip=Clip()))]) == 12

    run(main())


def test_a_video_that_takes_too_long_is_counted_as_that_alone(run: Run, isolate: bool, data: Path) -> None:
    film = (data / "videos" / "car-detection.mp4").read_bytes()

    async def main() -> None:
        async with running(Shelf(m={"ms": 50}), isolate=isolate) as engine:
            await engine.load("m")
            with pytest.raises(DeadlinePassed):
                async for _ in engine.stream(Call(model="m", media=film, clip=Clip(), deadline=time.monotonic() + 0.3)):
                    pass
            await asyncio.wait_for(settled(engine), 5)
            expired, failed, cancelled, answered = counted(engine, "expired", "failed", "cancelled", "answered")
            assert (expired + failed, cancelled, answered) == (1, 0, 0)

    run(main())


def test_a_video_is_counted_once_whether_it_ends_is_left_or_is_late(run: Run, isolate: bool, data: Path) -> None:
    film = (data / "videos" / "synthetic_12frames_160x120.mp4").read_bytes()

    async def main() -> None:
        async with running(Shelf(m={"ms": 20}), isolate=isolate) as engine:
            async for _ in engine.stream(Call(model="m", media=film, clip=Clip())):
                pass
            left = engine.stream(Call(model="m", media=film, clip=Clip()))
            await anext(left)
            await left.aclose()
            await settled(engine)
            late = engine.stream(Call(model="m", media=film, clip=Clip(), deadline=time.monotonic() + 0.05))
            with contextlib.suppress(DeadlinePassed):
                async for _ in late:
                    await asyncio.sleep(0.05)
            await settled(engine)
            facts = engine.info()["models"][0]
            counted = {name: facts[name] for name in ("accepted", "answered", "failed", "cancelled", "expired")}
            assert counted == {"accepted": 3, "answered": 1, "failed": 0, "cancelled": 1, "expired": 1}

    run(main())


def test_a_replica_answers_two_videos_at_one_time_and_others_wait(run: Run, data: Path) -> None:
    film = (data / "videos" / "synthetic_12frames_160x120.mp4").read_bytes()

    async def main() -> None:
        async with running(Shelf(m={"ms": 20}), isolate=False) as engine:
            await engine.load("m")
            films = [engine.stream(Call(model="m", media=film, clip=Clip())) for _ in range(4)]
            first = [asyncio.create_task(anext(one)) for one in films]
            await asyncio.wait(first[:2])
            assert counted(engine, "in_flight", "queued") == (2, 2)
            assert brightness(await engine.predict(call(brightness=3))) == 3, "an image does not wait for them"
            for one, task in zip(films, first, strict=True):
                await task
                assert len([answer async for answer in one]) == 11

    run(main())


def test_a_slow_reader_of_a_video_holds_it_back(run: Run, isolate: bool, data: Path) -> None:
    film = (data / "videos" / "car-detection.mp4").read_bytes()

    async def main() -> None:
        async with running(Shelf(m={}), isolate=isolate) as engine:
            stream = engine.stream(Call(model="m", media=film, clip=Clip()))
            await anext(stream)
            await asyncio.sleep(0.5)
            assert engine.info()["models"][0]["in_flight"] == 1
            count = 1
            async for _ in stream:
                count += 1
            assert count == 151

    run(main())


def _rules(**given: Any) -> Any:
    from saccade.engine import Rules

    return Rules(threads=2, isolate=False, **given)


def test_answers_of_the_former_files_are_not_kept_for_the_new_ones(run: Run) -> None:
    async def main() -> None:
        library = Shelf(m={})
        async with running(library, isolate=False, cache_bytes=1 << 20) as engine:
            await engine.predict(call(brightness=1))
            library.put("m", {"load_ms": 3000}, revision="2")
            await asyncio.sleep(1.2)
            await engine.predict(call(brightness=2))
            await asyncio.sleep(0.2)
            assert (await engine.predict(call(brightness=50, use_cache=True))).revision == "1"  # while it is replaced
            end = time.monotonic() + 20
            while (await engine.predict(call(brightness=2, use_cache=False))).revision == "1":
                assert time.monotonic() < end
                await asyncio.sleep(0.1)
            assert (await engine.predict(call(brightness=50, use_cache=True))).revision == "2"

    run(main())


def test_a_model_that_is_opened_is_what_lies_there_now(run: Run) -> None:
    async def main() -> None:
        library = Shelf(m={})
        async with running(library, isolate=False) as engine:
            assert (await engine.predict(call())).revision == "1"
            await engine.unload("m")
            library.put("m", {}, revision="2")
            await asyncio.sleep(1.2)
            assert (await engine.predict(call())).revision == "2"

    run(main())


def test_a_preloaded_model_stays_whatever_it_was_called(run: Run) -> None:
    async def main() -> None:
        library = Shelf(pin={"mib": 200}, other={"mib": 200})
        library.cards_by_name["alias"] = library.cards_by_name["pin"]
        settings = {"pins": ("alias",), "min_residency_s": 0, "memory_bytes": 150 << 20}
        async with running(library, isolate=False, **settings) as engine:
            with pytest.raises(Overloaded, match="no room") as raised:
                await engine.predict(call("other"))
            assert raised.value.retry_after_s == 60, "there is nothing to wait for"
            assert [model["name"] for model in engine.info()["models"]] == ["pin"]

    run(main())


def test_new_files_get_as_many_replicas_as_the_former_had(run: Run) -> None:
    async def main() -> None:
        library = Shelf(m={})
        async with running(library, isolate=False) as engine:
            await engine.load("m")
            await engine.scale("m", 3)
            library.put("m", {}, revision="2")
            await asyncio.sleep(1.2)
            end = time.monotonic() + 10
            while (await engine.predict(call())).revision != "2" and time.monotonic() < end:
                await asyncio.sleep(0.2)
            assert len(engine.info()["models"][0]["replicas"]) == 3

    run(main())


def test_replicas_that_were_up_before_a_further_one_failed_stay_and_are_wanted(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, begin = 0, simulated.SimulatedSession.__init__

    def limited(session: Any, behaviour: Any) -> None:
        nonlocal opened
        opened += 1
        if opened > 3:
            raise CorruptFiles("There is no more.")
        begin(session, behaviour)

    async def main() -> None:
        library = Shelf(m={})
        async with running(library, isolate=False) as engine:
            with monkeypatch.context() as short:
                short.setattr(simulated.SimulatedSession, "__init__", limited)
                await engine.load("m")
                with pytest.raises(CorruptFiles):
                    await engine.scale("m", 5)
            assert len(engine.info()["models"][0]["replicas"]) == 3
            library.put("m", {}, revision="2")
            await asyncio.sleep(1.2)
            while (await engine.predict(call())).revision != "2":
                await asyncio.sleep(0.05)
            assert len(engine.info()["models"][0]["replicas"]) == 3

    run(main())


def test_a_call_whose_model_was_still_being_looked_up_is_not_taken_after_the_drain(run: Run) -> None:
    async def main() -> None:
        library = Shelf(m={})
        found = library.card

        def slowly(ref: str) -> Any:
            time.sleep(0.5)
            return found(ref)

        library.card = slowly  # type: ignore[method-assign]
        async with running(library, isolate=False) as engine:
            late = asyncio.create_task(engine.predict(call()))
            await asyncio.sleep(0.1)
            await engine.drain()
            with pytest.raises(Stopped):
                await late

    run(main())


def test_a_caller_who_leaves_while_a_model_is_looked_up_disturbs_nobody(run: Run) -> None:
    async def main() -> None:
        library, found = Shelf(m={}), threading.Event()
        look_up = library.card

        def slowly(ref: str) -> Any:
            found.wait(30)
            return look_up(ref)

        library.card = slowly  # type: ignore[method-assign]
        async with running(library, isolate=False) as engine:
            leaves, stays = (asyncio.create_task(engine.predict(call(brightness=n))) for n in (1, 2))
            await asyncio.sleep(0.05)
            leaves.cancel()
            await asyncio.wait({leaves})
            found.set()
            assert brightness(await stays) == 2

    run(main())


def test_a_model_whose_files_are_gone_leaves_memory_though_nobody_asks_for_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "LOOK_S", 0.1)

    async def main() -> None:
        library = Shelf(a={}, b={})
        async with running(library, isolate=False) as engine:
            await engine.load("a")
            await engine.load("b")
            del library.cards_by_name["a"]
            until = time.monotonic() + 10
            while engine.state("a") == "warm" and time.monotonic() < until:
                await asyncio.sleep(0.05)
            assert (engine.state("a"), engine.state("b")) == ("cold", "warm")

    run(main())


def test_nothing_is_kept_of_models_that_came_and_went(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "LOOK_S", 0.3)
    monkeypatch.setattr(engine_module, "TEND_S", 0.05)

    async def main() -> None:
        library = Shelf(stays={}, asleep={})
        async with running(library, isolate=False) as engine:
            await engine.load("stays")
            for number in range(3):
                library.put(f"passing-{number}", {})
                await engine.load(f"passing-{number}")
                await engine.unload(f"passing-{number}")
                del library.cards_by_name[f"passing-{number}"]
            await asyncio.sleep(1.0)
            gc.collect()
            assert {found.name for found in gc.get_objects() if type(found) is Card} >= {"stays", "asleep"}
            assert [found for found in gc.get_objects() if type(found) is Card and "passing" in found.name] == []
            assert engine.state("stays") == "warm"

    run(main())


def test_who_asks_for_a_model_that_is_gone_hears_so_at_once(run: Run, data: Path) -> None:
    film = (data / "videos" / "car-detection.mp4").read_bytes()

    async def main() -> None:
        library = Shelf(m={})
        async with running(library, isolate=False) as engine:
            stream = engine.stream(Call(model="m", media=film, clip=Clip()))
            await anext(stream)
            del library.cards_by_name["m"]
            await asyncio.sleep(1.1)
            with pytest.raises(UnknownModel):  # the first may still be answered by what is in memory
                await asyncio.wait_for(for_ever(engine), 5)
            await stream.aclose()

    run(main())


async def for_ever(engine: Engine) -> None:
    while True:
        await engine.predict(call())


def test_another_name_of_a_model_leads_to_no_former_files(run: Run) -> None:
    async def main() -> None:
        library = Aliases(m={})
        async with running(library, isolate=False) as engine:
            await engine.load("alias")
            await engine.unload("m")
            library.put("m", {}, revision="2")
            assert (await engine.load("nickname")).revision == "2"
            assert (await engine.predict(call("alias"))).revision == "2"
            await asyncio.sleep(0.3)
            assert engine.info()["loads"] == 2

    run(main())


class Aliases(Shelf):
    """A library where one model has several names."""

    def card(self, ref: str) -> Card:
        return super().card("m" if ref in ("alias", "nickname") else ref)


@pytest.mark.parametrize("isolate", [False])
def test_why_changed_files_do_not_take_over_is_told_once(
    run: Run, isolate: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody was told, and the former model answered for good."""
    monkeypatch.setattr(residency, "RELOAD_PAUSE_S", 0.1)
    monkeypatch.setattr(residency, "FORGIVE_S", 0.2)

    async def main() -> None:
        library = Shelf(m={})
        async with running(library, isolate=isolate) as engine:
            await engine.predict(call())
            library.put("m", {"corrupt": True}, revision="2")
            told: list[str] = []
            until = time.monotonic() + 2.5
            while time.monotonic() < until:
                assert (await engine.predict(call())).revision == "1"
                told = [line for line in caplog.messages if "stays what it was" in line]
                await asyncio.sleep(0.05)
            assert len(told) == 1
            assert "made to be corrupt" in told[0]
            assert "made to be corrupt" in engine.info()["models"][0]["reason"]
            library.put("m", {}, revision="1")
            while engine.info()["models"][0]["reason"]:
                await engine.predict(call())
                await asyncio.sleep(0.05)

    run(main())


def test_that_there_is_no_room_for_changed_files_beside_the_former_is_told(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        behaviour = {"mib": 150}  # more than is guessed before the first time
        rules = {"memory_bytes": 500 << 20, "pins": ("a", "b"), "threads": 1}
        library = Shelf(a=behaviour, b=behaviour)
        async with running(library, **rules) as engine:
            library.put("a", behaviour, revision="2")
            until = time.monotonic() + 10
            while not (told := engine.info()["models"][0]["reason"]) and time.monotonic() < until:
                assert (await engine.predict(call("a"))).revision == "1"
                await asyncio.sleep(0.05)
            assert "no room for the model 'a' beside those that are preloaded" in told
            assert len([line for line in caplog.messages if told in line]) == 1

    run(main())


def test_a_model_that_makes_room_for_another_as_soon_as_it_is_there_answers_those_who_waited_for_it(run: Run) -> None:
    """They were told that it was being put away."""

    async def main() -> None:
        library = Shelf()
        for name in ("a", "b"):
            library.put(name, {"load_ms": 100}, size_bytes=100 << 20)
        async with running(library, isolate=False, memory_bytes=400 << 20, min_residency_s=0) as engine:
            answers = await asyncio.gather(*(engine.predict(call(name)) for name in "ab"))
            assert [answer.model for answer in answers] == ["a", "b"]

    run(main())


def test_a_model_that_finds_no_memory_on_the_card_has_the_one_leave_that_was_used_longest_ago(run: Run) -> None:
    """Its callers were refused for as long as the others stayed."""

    async def main() -> None:
        library = Shelf(a={"card_mib": 400}, b={"card_mib": 400}, c={"card_mib": 500}, d={"card_mib": 900})
        async with running(library, isolate=False, min_residency_s=0) as engine:
            for name in "abac":
                assert (await engine.predict(call(name))).model == name
            assert [engine.state(name) for name in "abc"] == ["warm", "cold", "warm"]
            assert (await engine.predict(call("d"))).model == "d"
            assert [engine.state(name) for name in "acd"] == ["cold", "cold", "warm"]
            assert engine.info()["evictions"] == 3
        async with running(library, isolate=False) as engine:
            await engine.predict(call("a"))
            with pytest.raises(Overloaded, match="card has no more memory"):
                await engine.predict(call("d"))
            assert [engine.state(name) for name in "ad"] == ["warm", "cold"]

    run(main())


def test_no_model_leaves_twice_for_one_that_is_too_large_for_the_card(run: Run) -> None:
    async def main() -> None:
        library = Shelf(a={"card_mib": 400}, huge={"card_mib": 1200})
        async with running(library, isolate=False, min_residency_s=0) as engine:
            for state in ("cold", "warm", "warm"):
                await engine.predict(call("a"))
                with pytest.raises(Overloaded, match="card has no more memory"):
                    await engine.predict(call("huge"))
                assert engine.state("a") == state
            library.put("huge", {"card_mib": 700}, revision="2")
            await asyncio.sleep(1.1)
            assert (await engine.predict(call("huge"))).revision == "2"

    run(main())


def test_engines_of_one_process_hold_no_more_than_its_budget_together(run: Run) -> None:
    """Each had a budget of its own: a server with three endpoints took the memory of three."""

    async def main() -> None:
        library = Shelf(a={"mib": 300}, pinned={})
        for name in ("b", "c", "d"):
            library.put(name, {"mib": 100}, size_bytes=110 << 20)
        library.put("huge", {}, size_bytes=500 << 20)
        shelter = running(library, isolate=True, memory_bytes=500 << 20, pins=("pinned",))
        async with shelter as host, guests(library, host, "1", "2", "1", "3") as (first, second, replacing, third):
            await host.predict(call("a"))
            assert (await first.predict(call("b"))).model == "b"
            assert (host.state("a"), host.state("pinned")) == ("cold", "warm"), "what everybody uses leaves"
            with pytest.raises(Overloaded, match=r"'c' beside the dedicated endpoints .* 500 MiB\. Raise .* stop an"):
                await second.predict(call("c"))
            with pytest.raises(Overloaded, match="'a' beside the dedicated endpoints"):
                await host.predict(call("a"))
            with pytest.raises(Overloaded, match="beside the dedicated endpoints"):
                await first.scale("b", 5)
            assert len(first.info()["models"][0]["replicas"]) == 1
            together = host.info()["resident_bytes"] + first.info()["resident_bytes"]
            assert host.info()["memory_used_bytes"] == first.info()["memory_used_bytes"] >= together > 140 << 20
            assert (await replacing.predict(call("d"))).model == "d", "it takes the place of the first"
            await first.close()
            await replacing.close()
            assert (await second.predict(call("c"))).model == "c"
            await second.close()
            assert (await host.predict(call("a"))).model == "a"
            with pytest.raises(Overloaded, match="beside the dedicated endpoints"):
                await third.predict(call("huge"))
            assert host.state("a") == "warm", "it would have left in vain"

    run(main())


@contextlib.asynccontextmanager
async def guests(library: Shelf, host: Engine, *shares: str) -> AsyncIterator[list[Engine]]:
    """Engines beside another, as those of dedicated endpoints are."""
    rules = Rules(threads=2, cache_bytes=0, max_batch=1)
    engines = [Engine(library, rules, host, share) for share in shares]
    for engine in engines:
        await engine.start()
    try:
        yield engines
    finally:
        for engine in engines:
            await engine.close()
