"""Workers that are started before anybody needs them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.engine.shelf import Shelf, picture, running

from saccade.call import Call
from saccade.engine import Engine, Rules
from saccade.errors import RunFailed

Run = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def nobody_is_left_behind() -> Iterator[None]:
    """No test may leave a process, dead or alive, or an open descriptor."""
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    here = psutil.Process().children()
    yield
    assert [child for child in psutil.Process().children() if child not in here] == []
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1


def pids(engine: Engine) -> set[int]:
    return {replica.get("pid", 0) for model in engine.info()["models"] for replica in model["replicas"]}


def spares(engine: Engine) -> set[int]:
    """The processes that belong to no model."""
    return {child.pid for child in psutil.Process().children()} - pids(engine)


async def furnished(engine: Engine, count: int = 1) -> set[int]:
    """The spares, once so many are ready."""
    until = time.monotonic() + 30
    while engine.info()["spare_workers"] < count:
        assert time.monotonic() < until, "no spare came up"
        await asyncio.sleep(0.02)
    return spares(engine)


def test_a_model_takes_the_spare_and_the_next_one_comes_up_when_it_is_loaded(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"load_ms": 300}, n={}), spare_workers=1) as engine:
            first = await furnished(engine)
            loading = asyncio.create_task(engine.load("m"))
            await asyncio.sleep(0.2)
            assert spares(engine) == first, "another process was started while a model was being opened"
            await loading
            assert pids(engine) == first
            await asyncio.sleep(0.3)
            assert spares(engine) == set(), "the first answers should have the processors for themselves"
            second = await furnished(engine)
            await engine.load("n")
            assert pids(engine) == first | second

    run(main())


def test_a_killed_worker_is_followed_by_the_spare(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 20}), spare_workers=1) as engine:
            await engine.load("m")
            waiting = await furnished(engine)
            calls = [asyncio.create_task(engine.predict(Call(model="m", media=picture(n)))) for n in range(8)]
            await asyncio.sleep(0.03)
            os.kill(next(iter(pids(engine))), signal.SIGKILL)
            assert len(await asyncio.gather(*calls)) == 8
            assert pids(engine) == waiting

    run(main())


def test_a_spare_that_dies_is_replaced_and_no_load_meets_its_end(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={}), spare_workers=1) as engine:
            dead = await furnished(engine)
            os.kill(next(iter(dead)), signal.SIGKILL)
            await engine.load("m")
            assert pids(engine) != dead
            assert (await furnished(engine)).isdisjoint(dead)

    run(main())


def test_a_model_that_kills_every_worker_fails_with_a_spare_as_without(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"crash_on_load": True}), spare_workers=1) as engine:
            await furnished(engine)
            with pytest.raises(RunFailed, match="SIGKILL"):
                await engine.load("m")

    run(main())


def test_a_spare_that_was_killed_while_it_waited_is_not_waited_for_at_once_again(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={}), spare_workers=1) as engine:
            os.kill(next(iter(await furnished(engine))), signal.SIGKILL)
            await asyncio.sleep(0.5)
            assert engine.info()["spare_workers"] == 0
            assert spares(engine) == set(), "a crash loop must have pauses"
            await furnished(engine)

    run(main())


def test_the_memory_of_spares_is_told_and_counted(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={}), spare_workers=2) as engine:
            pair = await furnished(engine, 2)
            held = sum(psutil.Process(pid).memory_info().rss for pid in pair)
            assert engine.info()["spare_bytes"] == pytest.approx(held, rel=0.05)
            assert engine.info()["resident_bytes"] == 0

    run(main())


def test_a_model_makes_room_for_the_spare_too(run: Run) -> None:
    async def main() -> None:
        shelf = Shelf(m={}, n={})
        async with running(shelf, spare_workers=0) as engine:
            await engine.load("m")
            need = engine.info()["resident_bytes"]
        # Two models fit, but not two and a spare.
        rules = {"memory_bytes": int(2.3 * need) + (120 << 20), "min_residency_s": 0.0}
        for count, stay in ((0, 2), (2, 1)):
            async with running(shelf, spare_workers=count, **rules) as engine:
                await engine.load("m")
                await furnished(engine, count)
                await engine.load("n")
                assert len(engine.info()["models"]) == stay, engine.info()

    run(main())


def test_no_spare_comes_up_when_none_is_wanted_or_models_live_in_the_servers_process(run: Run) -> None:
    async def main() -> None:
        for rules in ({"spare_workers": 0}, {"spare_workers": 1, "isolate": False}):
            async with running(Shelf(m={}), **rules) as engine:
                await engine.load("m")
                await asyncio.sleep(0.1)
                assert spares(engine) == set()
                assert (engine.info()["spare_workers"], engine.info()["spare_bytes"]) == (0, 0)

    run(main())


def test_a_spare_gets_ready_behind_everybody_and_works_like_everybody(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(), spare_workers=1) as engine:
            seen: set[int] = set()
            while not engine.info()["spare_workers"]:
                for pid in spares(engine):
                    seen |= set(nice(pid))
                await asyncio.sleep(0.001)
            usual = os.nice(0)
            assert min(19, usual + 19) in seen
            assert set(nice(next(iter(spares(engine))))) == {usual}

    run(main())


def nice(pid: int) -> list[int]:
    """The priority of each thread of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            found.append(int(task.read_text().rpartition(")")[2].split()[16]))
        except OSError:
            continue
    return found


def test_engines_of_one_process_share_their_spares(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={}), spare_workers=1) as engine:
            waiting = await furnished(engine)
            guest = Engine(Shelf(n={}), Rules(threads=2, cache_bytes=0, max_batch=1, spare_workers=1), engine.spares)
            await guest.start()
            await guest.load("n")
            assert pids(guest) == waiting
            assert guest.info()["spare_bytes"] == 0
            await guest.close()
            assert len(await furnished(engine)) == 1, "the guest took the host's spares along"

    run(main())


def test_closing_while_a_spare_is_being_started_leaves_nothing(run: Run) -> None:
    async def main() -> None:
        for pause_s in (0.0, 1.0, 1.005, 1.02, 1.1):
            async with running(Shelf(), spare_workers=3):
                await asyncio.sleep(pause_s)
            assert psutil.Process().children() == []

    run(main())
