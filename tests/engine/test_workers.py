"""Workers that die, hang, go blind, run away or swell; and fronts that are killed."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cv2
import msgspec
import numpy as np
import psutil
import pytest
from msgspec.structs import force_setattr
from PIL import Image
from tests.engine.shelf import Shelf, photo_sized, picture, running

from saccade.call import Answer, Call, Clip
from saccade.card import Card
from saccade.engine import Engine, fork_server
from saccade.engine import worker as workers
from saccade.engine.murmur import MOST_BYTES, Murmur
from saccade.errors import (
    BadInput,
    Changed,
    CorruptFiles,
    Error,
    Overloaded,
    RunFailed,
    StillLoading,
    Stopped,
    TooLarge,
)
from saccade.results import Boxes

Run = Callable[[Any], Any]


def call(brightness: int = 100, model: str = "m", **given: Any) -> Call:
    return Call(model=model, media=picture(brightness), **given)


def brightness(answer: Answer) -> int:
    assert isinstance(answer.result, Boxes)
    return round(float(answer.result.scores[0]) * 255)


def pids(engine: Engine) -> list[int]:
    return [replica["pid"] for model in engine.info()["models"] for replica in model["replicas"]]


@pytest.mark.parametrize("forked", [False, True])
def test_what_a_worker_logs_begins_with_the_time_in_utc(
    run: Run, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, forked: bool
) -> None:
    monkeypatch.setenv("TZ", "XXX+05:30")

    async def main() -> None:
        async with running(Shelf(m={"mib": "many"}), fork_workers=forked) as engine:
            with pytest.raises(CorruptFiles):
                await engine.load("m")

    run(main())
    (line,) = (line for line in capfd.readouterr().err.splitlines() if "cannot be opened" in line)
    stamp, level, _ = line.split(" ", 2)
    assert (level, abs(datetime.fromisoformat(stamp).timestamp() - time.time()) < 60) == ("ERROR", True), line


@pytest.fixture(autouse=True)
def nobody_is_left_behind() -> Iterator[None]:
    """No test may leave a worker, dead or alive, or an open descriptor."""
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    yield
    assert [child for child in psutil.Process().children() if "worker" in " ".join(_line(child))] == []
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() or ["worker"]
    except psutil.Error:
        return ["worker"]


def test_the_calls_of_a_killed_worker_are_answered_by_the_next(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 100})) as engine:
            await engine.load("m")
            calls = [asyncio.create_task(engine.predict(call(n))) for n in range(12)]
            await asyncio.sleep(0.15)
            os.kill(pids(engine)[0], signal.SIGKILL)
            answers = await asyncio.gather(*calls)
            assert [brightness(answer) for answer in answers] == list(range(12))
            facts = engine.info()["models"][0]
            assert facts["crashes"] == 1
            assert 1 <= facts["retried"] <= 4

    run(main())


def test_a_video_whose_worker_is_killed_goes_on_behind_the_frames_that_were_answered(run: Run) -> None:
    film = io.BytesIO()
    first, *others = [Image.new("L", (16, 16), 10 * number) for number in range(1, 25)]
    first.save(film, "GIF", save_all=True, append_images=others)

    async def main() -> None:
        async with running(Shelf(m={"ms": 5})) as engine:
            await engine.load("m")
            seen: list[int] = []
            async for answer in engine.stream(Call(model="m", media=film.getvalue(), clip=Clip())):
                seen.append(round(brightness(answer) / 10))
                if len(seen) == 6:
                    os.kill(pids(engine)[0], signal.SIGKILL)
            assert seen == list(range(1, 25))
            assert engine.info()["models"][0]["crashes"] == 1

    run(main())


def test_a_call_that_meets_the_end_of_two_workers_is_answered_by_the_third(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 500})) as engine:
            await engine.load("m")
            calls = [asyncio.create_task(engine.predict(call(n))) for n in range(3)]
            dead: list[int] = []
            for _ in range(2):
                while not (alive := [pid for pid in pids(engine) if pid not in dead]):
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0.1)
                os.kill(alive[0], signal.SIGKILL)
                dead += alive
            assert [brightness(answer) for answer in await asyncio.gather(*calls)] == [0, 1, 2]

    run(main())


def test_other_replicas_go_on_while_one_is_replaced(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 20}), replicas=2) as engine:
            await engine.load("m")
            first, second = pids(engine)
            calls = [asyncio.create_task(engine.predict(call(n))) for n in range(30)]
            await asyncio.sleep(0.03)
            os.kill(first, signal.SIGKILL)
            answers = await asyncio.gather(*calls)
            assert [brightness(answer) for answer in answers] == list(range(30))
            while len(pids(engine)) < 2:
                await asyncio.sleep(0.05)
            assert second in pids(engine)

    run(main())


def test_a_call_that_kills_every_worker_is_given_up_and_the_others_are_not(run: Run) -> None:
    async def main() -> None:
        # Each worker dies at its third run after the warm-up's (two with two streams).
        async with running(Shelf(m={"crash_after": 4})) as engine:
            await engine.load("m")
            results = [await _outcome(engine, n) for n in range(6)]
            assert all(isinstance(result, Answer) for result in results)
            assert engine.info()["models"][0]["crashes"] >= 2

    run(main())


def test_the_last_words_of_a_worker_that_crashed_are_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with running(Shelf(m={"abort_after": 4})) as engine:
            await engine.load("m")
            for n in range(4):
                await _outcome(engine, n)

    run(main())
    assert "the last words of a worker of 'm': simulated(): damaged heap in" in caplog.text
    assert "/home" not in caplog.text


def test_what_libraries_murmur_is_kept_small(tmp_path: Path) -> None:
    murmur = Murmur()
    with (tmp_path / "stream").open("w") as stream:
        murmur.take(stream.fileno())
        for _ in range(3):
            os.write(stream.fileno(), b"x" * (MOST_BYTES // 2))
            os.write(stream.fileno(), b"\nlibpng error: the end\n\n")
            murmur.trim()
        assert os.fstat(stream.fileno()).st_size < MOST_BYTES
        os.write(stream.fileno(), b"and on\n")
    assert murmur.last_words() == "and on"
    murmur.close()


def test_a_model_whose_workers_always_die_is_reported_as_failed(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"crash_on_load": True})) as engine:
            with pytest.raises(RunFailed, match="SIGKILL"):
                await engine.predict(call())
            assert engine.state("m") == "failed"

    run(main())


def test_a_worker_that_is_killed_while_it_loads_a_model_costs_no_call(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"load_ms": 600})) as engine:
            calls = [asyncio.create_task(engine.predict(call(n))) for n in range(3)]
            await asyncio.sleep(0)
            while not (workers := [one for one in psutil.Process().children() if "worker" in " ".join(_line(one))]):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            workers[0].kill()
            assert [brightness(answer) for answer in await asyncio.gather(*calls)] == [0, 1, 2]

    run(main())


def test_a_worker_that_hangs_is_replaced_and_its_call_is_run_again(run: Run) -> None:
    async def main() -> None:
        # The second run after the warm-up's two hangs, in every worker.
        async with running(Shelf(m={"hang_after": 3}), hang_s=0.6) as engine:
            await engine.load("m")
            assert isinstance(await _outcome(engine, 1), Answer)
            begun = time.monotonic()
            assert isinstance(await _outcome(engine, 2), Answer)
            assert time.monotonic() - begun < 10
            assert engine.info()["models"][0]["crashes"] == 1

    run(main())


def test_who_asked_a_model_that_takes_too_long_is_told_how_long_that_is_and_which_setting_says_so(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"hang_after": 1}), hang_s=2.0, check_s=0.0, threads=1) as engine:
            with pytest.raises(RunFailed, match=r"no answer for [2-9] s \(hang_timeout_s\)"):
                await engine.predict(call(1))

    run(main())


def test_a_model_that_is_slower_than_a_hung_one_from_the_first_call_on_answers(run: Run) -> None:
    """Its worker was ended before the first answer, which alone told how slow it is, and so at every call."""

    async def main() -> None:
        async with running(Shelf(m={"ms": 1700, "parallel": 1}), hang_s=1.0, check_s=0.0, threads=1) as engine:
            answers = await asyncio.gather(engine.predict(call(1)), engine.predict(call(2)))
            assert [brightness(answer) for answer in answers] == [1, 2]
            assert engine.info()["models"][0]["crashes"] == 0

    run(main())


def test_a_video_is_not_taken_for_hung_because_it_is_long(run: Run, data: Path) -> None:
    film = (data / "videos" / "synthetic_12frames_160x120.mp4").read_bytes()

    async def main() -> None:
        async with running(Shelf(m={"ms": 500}), hang_s=1.2, check_s=0.0) as engine:
            await engine.load("m")
            assert len([one async for one in engine.stream(Call(model="m", media=film, clip=Clip()))]) == 12
            assert engine.info()["models"][0]["crashes"] == 0

    run(main())


def test_a_worker_that_is_stopped_is_noticed_by_its_pulse(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={}), hang_s=1.0) as engine:
            await engine.load("m")
            before = pids(engine)
            os.kill(before[0], signal.SIGSTOP)
            assert brightness(await engine.predict(call(5))) == 5
            assert pids(engine) != before

    run(main())


@pytest.mark.parametrize(("ms", "check_s"), [(50, 0.0), (600, 0.1)])
def test_when_the_whole_server_was_stopped_for_a_while_no_worker_is_to_blame(run: Run, ms: int, check_s: float) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": ms}), hang_s=1.2, check_s=check_s) as engine:
            await engine.load("m")
            await asyncio.sleep(1.0)
            (before,) = pids(engine)
            asked = asyncio.create_task(engine.predict(call(5)))
            await asyncio.sleep(0.03)
            os.kill(before, signal.SIGSTOP)
            time.sleep(4)
            os.kill(before, signal.SIGCONT)
            assert brightness(await asked) == 5
            await asyncio.sleep(0.1)
            assert pids(engine) == [before]

    run(main())


def test_a_worker_that_went_blind_is_replaced(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"blind_after": 8}), check_s=0.2) as engine:
            await engine.load("m")
            before = pids(engine)
            until = time.monotonic() + 20
            while pids(engine) in ([], before) and time.monotonic() < until:
                await asyncio.sleep(0.05)
            assert pids(engine) not in ([], before)

    run(main())


def test_a_slow_model_that_is_busy_has_time_to_look_at_its_picture(run: Run) -> None:
    """Whatever a call may take; it was ended in the midst of its calls, again and again."""

    async def main() -> None:
        async with running(Shelf(m={"ms": 500, "parallel": 1}), hang_s=1.2, check_s=0.0) as engine:
            await asyncio.gather(*(engine.predict(call(n)) for n in range(4)))
            (before,) = pids(engine)
            force_setattr(engine.rules, "check_s", 0.1)
            for _ in range(3):
                answers = await asyncio.gather(*(engine.predict(call(n)) for n in range(4)))
                assert [brightness(answer) for answer in answers] == [0, 1, 2, 3]
            assert pids(engine) == [before]
            assert engine.info()["models"][0]["crashes"] == 0

    run(main())


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="only here a running process is given a limit")
def test_a_worker_that_gets_no_thread_to_look_at_its_picture_goes_on(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={}), check_s=1.0, threads=1) as engine:
            await engine.load("m")
            (before,) = pids(engine)
            worker = psutil.Process(before)
            worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + (6 << 20), -1))  # less than one stack
            await asyncio.sleep(4)
            assert pids(engine) == [before]
            worker.rlimit(psutil.RLIMIT_AS, (-1, -1))
            assert brightness(await engine.predict(call(5))) == 5

    run(main())


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="only here a running process is given a limit")
@pytest.mark.parametrize(("kind", "width"), [(".jpg", 8000), (".webp", 8000), (".bmp", 5000)])
def test_a_good_image_is_not_called_damaged_where_there_is_no_memory_for_it(run: Run, kind: str, width: int) -> None:
    large = bytes(cv2.imencode(kind, np.full((4000, width, 3), 77, np.uint8))[1])

    async def main() -> None:
        async with running(Shelf(m={}), check_s=0.0, threads=1) as engine:
            await engine.load("m")
            (pid,) = pids(engine)
            worker = psutil.Process(pid)
            worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + len(large) + (20 << 20), -1))
            with pytest.raises(Overloaded, match="no more memory"):
                await engine.predict(Call(model="m", media=large))
            worker.rlimit(psutil.RLIMIT_AS, (-1, -1))
            assert brightness(await engine.predict(Call(model="m", media=large))) == 77
            with pytest.raises(BadInput, match=r"damaged|truncated"):
                await engine.predict(Call(model="m", media=large[: len(large) // 2]))

    run(main())


def test_a_large_image_leaves_the_worker_with_its_answer(run: Run) -> None:
    """It stayed until the next call, however long that took to come."""

    async def main() -> None:
        async with running(Shelf(m={}), threads=1, check_s=0.0) as engine:
            await engine.predict(Call(model="m", media=photo_sized(size=1000)))
            before = engine.info()["models"][0]["memory_bytes"]
            await engine.predict(Call(model="m", media=photo_sized(size=60_000_000)))
            await asyncio.sleep(1.0)
            assert engine.info()["models"][0]["memory_bytes"] < before + 50_000_000

    run(main())


@pytest.mark.parametrize(("idle", "seconds"), [(True, 6), (False, 31)])
def test_memory_is_given_back_in_quiet_moments_and_also_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch, idle: bool, seconds: float
) -> None:
    """A worker that was never idle grew by half of what it held within minutes of photos of many sizes."""
    moment, given = [1000.0], []
    monkeypatch.setattr(workers, "trim", lambda: given.append(moment[0]))
    monkeypatch.setattr(workers.time, "monotonic", lambda: moment[0])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        held = workers.Worker(ours, Murmur())
        replica = Mock(idle=idle)
        for moment[0] in np.arange(1000.0, 1000.0 + 2 * seconds + 1):
            held._trim(replica)
    assert given == [1000.0 + seconds, 1000.0 + 2 * seconds]


def test_an_image_that_decodes_too_long_fails_alone(run: Run) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (70, 7000, 3), dtype=np.uint8)
    heavy = bytes(cv2.imencode(".jpg", np.tile(noise, (50, 1, 1)), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1])

    async def main() -> None:
        async with running(Shelf(m={"ms": 5}), decode_s=0.15) as engine:
            await engine.load("m")
            runaway = asyncio.create_task(_outcome_of(engine, Call(model="m", media=heavy)))
            await asyncio.sleep(0.02)
            others = [asyncio.create_task(engine.predict(call(n))) for n in range(8)]
            assert isinstance(await runaway, TooLarge)
            assert [brightness(answer) for answer in await asyncio.gather(*others)] == list(range(8))

    run(main())


def test_a_slow_model_is_not_taken_for_an_image_that_decodes_too_long(run: Run, data: Path) -> None:
    film = (data / "videos" / "synthetic_12frames_160x120.mp4").read_bytes()

    async def main() -> None:
        async with running(Shelf(m={"ms": 2500}), decode_s=1.0, check_s=0.0) as engine:
            await engine.load("m")
            assert brightness(await engine.predict(call(7))) == 7
            asked = Call(model="m", media=film, clip=Clip(stride=6))
            assert len([answer async for answer in engine.stream(asked)]) == 2
            assert engine.info()["models"][0]["crashes"] == 0

    run(main())


def test_large_answers_that_are_ready_together_do_not_get_mixed_up(run: Run) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    pictures = [bytes(cv2.imencode(".bmp", noise + np.uint8(shade))[1]) for shade in range(8)]

    async def main() -> None:
        async with running(Shelf(m={}), threads=4, check_s=0.0) as engine:
            calls = [Call(model="m", media=picture, annotate=True) for picture in pictures * 4]
            answers = await asyncio.gather(*(engine.predict(one) for one in calls))
            assert engine.info()["models"][0]["crashes"] == 0
            for one, answer in zip(calls, answers, strict=True):
                assert answer.annotated == answers[calls.index(one)].annotated
            assert len({answer.annotated for answer in answers}) == len(pictures)
            assert min(len(answer.annotated or b"") for answer in answers) > 500_000

    run(main())


def test_a_worker_that_is_asked_to_leave_does_so_and_is_not_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade.engine.process.FAREWELL_S", 50.0)

    async def main() -> None:
        async with running(Shelf(m={})) as engine:
            await engine.load("m")
            assert await asyncio.wait_for(engine.unload("m"), 40)

    run(main())


def test_no_worker_outlives_a_killed_front(tmp_path: Path) -> None:
    script = tmp_path / "front.py"
    script.write_text(
        "import asyncio, sys\n"
        "from tests.engine.shelf import Shelf\n"
        "from saccade.engine import Engine, Rules\n"
        "async def main():\n"
        "    engine = Engine(Shelf(m={'ms': 5}, n={'ms': 5}), Rules(threads=2, fork_workers=True))\n"
        "    await engine.start()\n"
        "    await engine.load('m')\n"
        "    await engine.load('n')\n"
        "    print(*[r['pid'] for m in engine.info()['models'] for r in m['replicas']], flush=True)\n"
        "    while not engine.info()['fork_server']: await asyncio.sleep(0.01)\n"
        "    print('copied', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).resolve().parents[2]
    front = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert front.stdout is not None
    workers = [int(word) for word in front.stdout.readline().split()]
    assert len(workers) == 2
    assert front.stdout.readline() == "copied\n"
    front.stdout.close()
    # So does the process that they were copied from.
    workers += {child.pid for child in psutil.Process(front.pid).children()} - set(workers)
    assert len(workers) > 2
    assert all(psutil.pid_exists(pid) for pid in workers)
    front.kill()
    front.wait()
    until = time.monotonic() + 5
    while any(_alive(pid) for pid in workers) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def _outcome(engine: Engine, level: int) -> Answer | Error:
    return await _outcome_of(engine, call(level))


async def _outcome_of(engine: Engine, asked: Call) -> Answer | Error:
    try:
        return await engine.predict(asked)
    except Error as error:
        return error


def test_workers_that_die_as_soon_as_they_are_up_end_in_a_failed_model(run: Run) -> None:
    async def main() -> None:
        # The limit is below what any worker holds, so each is ended by its first pulse.
        async with running(Shelf(m={}), worker_memory_bytes=20 << 20) as engine:
            await engine.load("m")
            until = time.monotonic() + 40
            while engine.state("m") != "failed" and time.monotonic() < until:
                await asyncio.sleep(0.1)
            assert engine.state("m") == "failed"
            with pytest.raises(RunFailed, match="memory"):
                await engine.predict(call())

    run(main())


def test_a_model_that_hangs_while_it_leaves_holds_nobody_up(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(a={"hang_after": 2}), hang_s=1.5, check_s=1.0, threads=1) as engine:
            await engine.load("a")
            until = time.monotonic() + 1
            held = [asyncio.create_task(engine.predict(call(model="a", deadline=until))) for _ in range(2)]
            await asyncio.sleep(0.2)
            assert await asyncio.wait_for(engine.unload("a"), 15)
            await asyncio.gather(*held, return_exceptions=True)

    run(main())


def test_a_replica_that_comes_too_late_for_a_model_that_was_put_away_is_ended(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"load_ms": 1000}), threads=1) as engine:
            await engine.load("m")
            more = asyncio.create_task(engine.scale("m", 2))
            await asyncio.sleep(0.3)
            assert await engine.unload("m")
            with pytest.raises(Stopped):
                await more

    run(main())


class Disk(Shelf):
    """A library whose disk does not answer any more once models are being opened."""

    def __init__(self, **behaviours: dict[str, Any]) -> None:
        super().__init__(**behaviours)
        self.dead, self.woken = threading.Event(), threading.Event()

    def card(self, ref: str) -> Card:
        if ref == "far" and self.dead.is_set():
            self.woken.wait(30)
        return super().card(ref)


def test_a_model_that_is_put_away_as_soon_as_it_is_open_leaves_no_worker(run: Run) -> None:
    async def main() -> None:
        library = Disk(far={"load_ms": 500})
        async with running(library, threads=1) as engine:
            loading = asyncio.create_task(engine.load("far"))
            await asyncio.sleep(0.2)
            library.dead.set()
            await asyncio.sleep(1.5)
            assert engine.state("far") == "loading", "it is open, and its files are looked at once more"
            assert await engine.unload("far")
            with pytest.raises(Stopped):
                await loading
            library.woken.set()

    run(main())


def test_a_disk_that_stops_answering_while_a_model_is_opened_holds_no_other_model_up(run: Run) -> None:
    async def main() -> None:
        library = Disk(far={"load_ms": 500}, near={})
        async with running(library, threads=1, load_timeout_s=2.0) as engine:
            loading = asyncio.create_task(engine.load("far"))
            await asyncio.sleep(0.2)
            library.dead.set()
            await asyncio.wait_for(engine.load("near"), 10)
            with pytest.raises(StillLoading):
                await loading
            library.woken.set()

    run(main())


def test_no_replica_too_many_comes_while_a_lost_one_is_replaced(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"load_ms": 500}), threads=1) as engine:
            await engine.load("m")
            os.kill(pids(engine)[0], signal.SIGKILL)
            while pids(engine):
                await asyncio.sleep(0.01)
            await engine.scale("m", 1)
            while not pids(engine):
                await asyncio.sleep(0.01)
            await asyncio.sleep(1)
            assert len(pids(engine)) == 1

    run(main())


def test_fewer_replicas_are_wanted_while_a_lost_one_is_replaced(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"load_ms": 700}), threads=1, replicas=3) as engine:
            await engine.load("m")
            os.kill(pids(engine)[0], signal.SIGKILL)
            while len(pids(engine)) == 3:
                await asyncio.sleep(0.01)
            await engine.scale("m", 1)
            await asyncio.sleep(2.5)
            assert len(pids(engine)) == 1

    run(main())


def test_of_two_scalings_at_one_time_the_later_counts(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"load_ms": 100}), threads=1) as engine:
            await engine.load("m")
            await asyncio.gather(engine.scale("m", 4), engine.scale("m", 3))
            while len(pids(engine)) > 3:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            assert len(pids(engine)) == 3
            await asyncio.gather(engine.scale("m", 2), engine.scale("m", 4))
            assert len(pids(engine)) == 4

    run(main())


def test_a_replica_that_is_lost_while_it_leaves_is_not_replaced(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 1500}), replicas=2) as engine:
            await engine.load("m")
            calls = [asyncio.create_task(engine.predict(call(n))) for n in range(4)]
            await asyncio.sleep(0.1)
            stays, leaves = pids(engine)
            await engine.scale("m", 1)
            os.kill(leaves, signal.SIGKILL)
            assert [brightness(answer) for answer in await asyncio.gather(*calls)] == [0, 1, 2, 3]
            await asyncio.sleep(1.5)
            assert pids(engine) == [stays]

    run(main())


def test_a_worker_that_dies_while_it_is_renewed_leaves_one_behind_also_when_the_renewal_fails(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, tries = fork_server.started, 0

    async def slow_and_refused_once(*given: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            await asyncio.sleep(1.0)
            raise OSError(11, "Resource temporarily unavailable")
        return await started(*given)

    async def main() -> None:
        async with running(Shelf(m={})) as engine:
            await engine.load("m")
            monkeypatch.setattr(fork_server, "started", slow_and_refused_once)
            old = pids(engine)[0]
            # The worker was not told, or it would end itself.
            force_setattr(engine.rules, "worker_memory_bytes", 1 << 20)
            while not tries:
                await asyncio.sleep(0.05)
            force_setattr(engine.rules, "worker_memory_bytes", 0)
            os.kill(old, signal.SIGKILL)
            await asyncio.sleep(2.5)
            assert (await engine.predict(call(deadline=time.monotonic() + 5))).model == "m"
            assert len(pids(engine)) == 1

    run(main())


def test_a_worker_that_the_system_refuses_once_is_tried_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    started, tries = fork_server.started, 0

    async def refused_once(*given: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError(11, "Resource temporarily unavailable")
        return await started(*given)

    async def main() -> None:
        async with running(Shelf(m={}), threads=1) as engine:
            await engine.predict(call())
            monkeypatch.setattr(fork_server, "started", refused_once)
            os.kill(engine.info()["models"][0]["replicas"][0]["pid"], signal.SIGKILL)
            await asyncio.sleep(0.3)
            assert (await engine.predict(call(deadline=time.monotonic() + 10))).model == "m"
            assert tries == 2

    run(main())


def test_a_model_that_is_asked_for_while_the_engine_closes_is_not_loaded(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={})) as engine:
            loading = asyncio.create_task(engine.load("m"))
        with pytest.raises(Stopped):
            await loading
        assert psutil.Process().children() == []

    run(main())


def laid(library: Shelf, file: Path, revision: str) -> None:
    """The model's file is written (anew), and its Card tells so."""
    file.with_suffix(".part").write_text("weights")
    file.with_suffix(".part").rename(file)
    library.put("m", {}, revision=revision)
    library.cards_by_name["m"] = msgspec.structs.replace(library.cards_by_name["m"], files=(str(file),))


def test_a_worker_that_is_lost_once_its_files_were_replaced_is_not_followed_by_one_of_the_new_as_the_old(
    run: Run, tmp_path: Path
) -> None:
    """It answered with the new weights what the former model's labels meant, under the former's revision."""

    async def main() -> None:
        library = Shelf()
        laid(library, tmp_path / "m.onnx", "1")
        async with running(library) as engine:
            assert (await engine.predict(call())).revision == "1"
            laid(library, tmp_path / "m.onnx", "2")
            os.kill(pids(engine)[0], signal.SIGKILL)
            answers = await asyncio.gather(*(engine.predict(call(n)) for n in range(4)))
            assert [(brightness(answer), answer.revision) for answer in answers] == [(n, "2") for n in range(4)]
            assert engine.info()["failed_models"] == []

    run(main())


@pytest.mark.parametrize("revision", ["1", "2"])
def test_a_model_whose_files_were_replaced_is_opened_anew_before_it_gets_a_further_replica(
    run: Run, tmp_path: Path, revision: str
) -> None:
    async def main() -> None:
        library = Shelf()
        laid(library, tmp_path / "m.onnx", "1")
        async with running(library) as engine:
            await engine.predict(call())
            former = pids(engine)
            laid(library, tmp_path / "m.onnx", revision)
            with pytest.raises(Changed, match="files of the model 'm' were replaced"):
                await engine.scale("m", 2)
            assert pids(engine) == former
            while pids(engine) == former:
                assert (await engine.predict(call())).model == "m"
                await asyncio.sleep(0.02)
            await engine.scale("m", 2)
            assert len(pids(engine)) == 2
            assert (await engine.predict(call())).revision == revision

    run(main())


def test_a_video_that_waited_for_a_worker_of_former_files_is_answered_by_the_new_ones(run: Run, tmp_path: Path) -> None:
    film = io.BytesIO()
    first, *others = [Image.new("L", (16, 16), 10 * number) for number in range(1, 4)]
    first.save(film, "GIF", save_all=True, append_images=others)

    async def main() -> None:
        library = Shelf()
        laid(library, tmp_path / "m.onnx", "1")
        async with running(library) as engine:
            await engine.load("m")
            laid(library, tmp_path / "m.onnx", "2")
            os.kill(pids(engine)[0], signal.SIGKILL)
            video = Call(model="m", media=film.getvalue(), clip=Clip())
            answers = [answer async for answer in engine.stream(video)]
            assert [(round(brightness(one) / 10), one.revision) for one in answers] == [(n, "2") for n in (1, 2, 3)]

    run(main())
