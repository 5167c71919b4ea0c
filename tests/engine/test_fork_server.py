"""Workers that are copies of a process that has imported what they need."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.engine.shelf import Shelf, picture, running

from saccade.call import Call
from saccade.engine import Engine, Rules, fork_server
from saccade.engine.fork_server import ForkServer, Parent
from saccade.engine.fork_server_process import NUMBER
from saccade.engine.fresh import Fresh, started
from saccade.engine.murmur import Murmur
from saccade.engine.residency import GUESS_BYTES
from saccade.errors import RunFailed
from saccade.kin import Adopted

Run = Callable[[Any], Any]

THREADS = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
"""What a module does that starts one when it is imported."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are started from nothing")


@pytest.fixture(autouse=True)
def nobody_is_left_behind() -> Iterator[None]:
    """No test may leave a process, dead or alive, or an open descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    here = psutil.Process().children()
    yield
    assert [child for child in psutil.Process().children() if child not in here] == []
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def pids(engine: Engine) -> set[int]:
    return {replica.get("pid", 0) for model in engine.info()["models"] for replica in model["replicas"]}


def others(engine: Engine) -> set[int]:
    """The processes that belong to no model."""
    return {child.pid for child in psutil.Process().children()} - pids(engine)


def is_copy(pid: int) -> bool:
    return "saccade.engine.fork_server_process" in psutil.Process(pid).cmdline()


def put_first(folder: Path, monkeypatch: pytest.MonkeyPatch, **modules: str) -> None:
    """Processes that are started from now on import these modules instead of others."""
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *os.environ.get("PYTHONPATH", "").split()]))


async def settled(engine: Engine) -> int:
    """The process that workers are copied from, once it takes orders."""
    until = time.monotonic() + 30
    while not engine.info()["fork_server"]:
        assert time.monotonic() < until, "no fork server came up"
        await asyncio.sleep(0.02)
    return next(iter(others(engine)))


def test_the_first_model_waits_for_the_process_and_all_workers_are_copies_of_it(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={}, n={}), fork_workers=True) as engine:
            assert not engine.info()["fork_server"], "it cannot be there so soon"
            await engine.load("m")
            await engine.load("n")
            assert all(map(is_copy, pids(engine)))
            assert len(others(engine)) == 1
            assert {psutil.Process(pid).ppid() for pid in pids(engine)} == {os.getpid()}

    run(main())


def test_a_copy_has_little_memory_of_its_own(run: Run) -> None:
    async def main() -> None:
        own = []
        for copied in (False, True):
            async with running(Shelf(m={}), fork_workers=copied) as engine:
                await engine.load("m")
                (worker,) = pids(engine)
                own.append(psutil.Process(worker).memory_full_info().uss)
        assert own[1] < 0.7 * own[0]

    run(main())


def test_a_killed_worker_is_followed_by_a_copy_at_once(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"ms": 20}), fork_workers=True) as engine:
            await engine.load("m")
            (worker,) = pids(engine)
            calls = [asyncio.create_task(engine.predict(Call(model="m", media=picture(n)))) for n in range(8)]
            await asyncio.sleep(0.03)
            os.kill(worker, signal.SIGKILL)
            assert len(await asyncio.gather(*calls)) == 8
            (next_one,) = pids(engine)
            assert next_one != worker
            assert is_copy(next_one)
            assert not psutil.pid_exists(worker), "a zombie"

    run(main())


def test_workers_outlive_what_they_were_copied_from_and_another_one_comes_up(run: Run, caplog: Any) -> None:
    async def main() -> None:
        async with running(Shelf(m={}, n={}, o={}), fork_workers=True) as engine:
            await engine.load("m")
            dead = await settled(engine)
            os.kill(dead, signal.SIGKILL)
            await asyncio.sleep(0.1)
            assert others(engine) == set(), "a crash loop must have pauses"
            await engine.load("n")
            for name in ("m", "n"):
                await engine.predict(Call(model=name, media=picture()))
            copies = [pid for pid in pids(engine) if is_copy(pid)]
            assert len(copies) == 1, "the second one had to be started from nothing"
            assert await settled(engine) != dead
            await engine.load("o")
            assert len([pid for pid in pids(engine) if is_copy(pid)]) == 2

    with caplog.at_level(logging.WARNING, "saccade.engine"):
        run(main())
    assert [record.message for record in caplog.records] == [
        "the process that workers are copied from has ended; another one is started"
    ]


def test_the_process_is_let_go_when_no_worker_is_needed_and_comes_back_for_the_next(
    run: Run, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade.engine.fork_server.REST_S", 0.5)

    async def main() -> None:
        async with running(Shelf(m={}, n={}, o={}), fork_workers=True) as engine:
            await engine.load("m")
            first = await settled(engine)
            until = time.monotonic() + 10
            while others(engine):
                assert time.monotonic() < until, "it holds its memory for good"
                await asyncio.sleep(0.02)
            assert not engine.info()["fork_server"]
            assert engine.info()["fork_server_bytes"] == 0
            await asyncio.sleep(0.5)
            assert not others(engine), "it came back although nobody needs it"
            await asyncio.gather(engine.load("n"), engine.load("o"))
            assert all(map(is_copy, pids(engine)))
            assert await settled(engine) != first
            for name in "mno":
                await engine.predict(Call(model=name, media=picture()))
            (worker,) = {replica["pid"] for replica in engine.info()["models"][0]["replicas"]}
            while others(engine):
                await asyncio.sleep(0.02)
            os.kill(worker, signal.SIGKILL)
            await engine.predict(Call(model="m", media=picture()))
            assert all(map(is_copy, pids(engine)))

    with caplog.at_level(logging.WARNING, "saccade.engine.fork_server"):
        run(main())
    assert "copied" not in caplog.text


def test_the_process_stays_as_long_as_workers_are_needed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.engine.fork_server.REST_S", 1.0)

    async def main() -> None:
        async with running(Shelf(m={}), fork_workers=True) as engine:
            await engine.load("m")
            there = await settled(engine)
            for _ in range(8):
                await asyncio.sleep(0.25)
                await engine.unload("m")
                await engine.load("m")
            assert others(engine) == {there}

    run(main())


def test_the_process_stays_while_a_worker_is_made_of_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.engine.fork_server.REST_S", 0.2)

    async def slow(parent: Parent) -> Fresh:
        await asyncio.sleep(1)
        return await copy(parent)

    copy = fork_server._copy
    monkeypatch.setattr(fork_server, "_copy", slow)

    async def main() -> None:
        server = ForkServer("simulated")
        server.start()
        worker = await server.worker()
        assert isinstance(worker.process, Adopted)
        await worker.end()
        await server.close()

    run(main())


def test_a_model_is_loaded_although_the_process_dies_just_then(run: Run) -> None:
    async def main() -> None:
        for pause_s in (0.0, 0.05, 0.2, 0.4):
            async with running(Shelf(m={}), fork_workers=True) as engine:
                loading = asyncio.create_task(engine.load("m"))
                await asyncio.sleep(pause_s)
                for pid in others(engine):
                    os.kill(pid, signal.SIGKILL)
                await loading
                await engine.predict(Call(model="m", media=picture()))

    run(main())


def test_a_model_that_kills_every_worker_fails_as_without(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={"crash_on_load": True}), fork_workers=True) as engine:
            await settled(engine)
            with pytest.raises(RunFailed, match="SIGKILL, as a system that is short of memory does"):
                await engine.load("m")

    run(main())


def test_its_memory_is_told_and_counted(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={}), fork_workers=True) as engine:
            held = psutil.Process(await settled(engine)).memory_info().rss
            assert engine.info()["fork_server_bytes"] == pytest.approx(held, rel=0.05)
            assert engine.info()["resident_bytes"] == 0

    run(main())


def test_a_model_makes_room_for_it_too(run: Run) -> None:
    async def main() -> None:
        shelf = Shelf(m={}, n={})
        async with running(shelf) as engine:
            await engine.load("m")
            need = engine.info()["resident_bytes"]
        # Two models fit, but not two and the process that they are copied from.
        rules = {"memory_bytes": need + GUESS_BYTES + (30 << 20), "min_residency_s": 0.0}
        for copied, stay in ((False, 2), (True, 1)):
            async with running(shelf, fork_workers=copied, **rules) as engine:
                await engine.load("m")
                await engine.load("n")
                assert len(engine.info()["models"]) == stay, engine.info()

    run(main())


def test_there_is_none_when_none_is_wanted_or_models_live_in_the_servers_process(run: Run) -> None:
    assert not Engine(Shelf(), Rules(device="cuda", fork_workers=True)).forks.wanted

    async def main() -> None:
        for rules in ({}, {"fork_workers": True, "isolate": False}):
            async with running(Shelf(m={}), **rules) as engine:
                await engine.load("m")
                await asyncio.sleep(0.1)
                assert others(engine) == set()
                assert (engine.info()["fork_server"], engine.info()["fork_server_bytes"]) == (False, 0)

    run(main())


def test_engines_of_one_process_share_it(run: Run) -> None:
    async def main() -> None:
        async with running(Shelf(m={}), fork_workers=True) as engine:
            shared = await settled(engine)
            guest = Engine(Shelf(n={}), Rules(threads=2, cache_bytes=0, max_batch=1, fork_workers=True), engine)
            await guest.start()
            await guest.load("n")
            assert all(map(is_copy, pids(guest)))
            assert guest.info()["fork_server_bytes"] == 0
            assert others(engine) - pids(guest) == {shared}
            await guest.close()
            assert await settled(engine) == shared, "the guest took the host's along"

    run(main())


def test_closing_at_any_moment_leaves_nothing(run: Run) -> None:
    async def main() -> None:
        for pause_s in (0.0, 0.005, 0.05, 0.3, 1.0):
            async with running(Shelf(), fork_workers=True):
                await asyncio.sleep(pause_s)
            assert psutil.Process().children() == []

    run(main())


def test_who_gives_up_waiting_for_a_worker_leaves_nothing(run: Run) -> None:
    async def main() -> None:
        forks = ForkServer("openvino")
        forks.start()
        first = await forks.worker()
        assert is_copy(first.process.pid), "who is early waits for it"
        await first.end()
        fresh: list[Fresh] = []
        for number in range(60):
            order = asyncio.create_task(forks.worker())
            await asyncio.sleep(number * 0.0003)
            order.cancel()
            fresh += [one for one in await asyncio.gather(order, return_exceptions=True) if isinstance(one, Fresh)]
        last = await forks.worker()
        assert last.ready, "an order that was given up must not be taken for another one"
        assert psutil.Process(last.process.pid).ppid() == os.getpid()
        for one in (*fresh, last):
            await one.end()
        await asyncio.sleep(0.1)
        assert len(psutil.Process().children()) == 1
        await forks.close()

    run(main())


def test_nobody_elses_orphans_become_children_of_the_server(run: Run) -> None:
    """They would stay in the system as zombies for as long as the server lives."""

    async def main() -> None:
        async with running(Shelf(m={"ms": 5}), fork_workers=True) as engine:
            await engine.load("m")
            os.kill(await settled(engine), signal.SIGKILL)
            await asyncio.sleep(0.1)
            orphan = await asyncio.create_subprocess_shell("sleep 0.1 & echo $!", stdout=asyncio.subprocess.PIPE)
            told, _ = await orphan.communicate()
            await asyncio.sleep(0.2)
            assert not psutil.pid_exists(int(told)) or psutil.Process(int(told)).ppid() != os.getpid()

    run(main())


def test_where_a_library_starts_threads_workers_are_started_from_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """A copy of a process with several threads has one of them, and the locks that the others held."""
    put_first(tmp_path, monkeypatch, sitecustomize=THREADS)

    async def main() -> None:
        async with running(Shelf(m={}), fork_workers=True) as engine:
            await engine.load("m")
            assert not any(map(is_copy, pids(engine)))
            await asyncio.sleep(1.2)
            assert others(engine) == set(), "it would be the same the next time"

    with caplog.at_level(logging.WARNING, "saccade.engine"):
        run(main())
    assert "a library has started threads" in caplog.text


def test_answers_are_told_from_one_another_however_they_come(run: Run) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(["sleep", "60"])
        parent = Parent(process, ours)
        await asyncio.get_running_loop().create_connection(lambda: parent, sock=ours)
        murmur = Murmur()
        with theirs:
            orders = [asyncio.create_task(parent.copied(theirs, murmur)) for _ in range(3)]
            theirs.sendall(NUMBER.pack(0)[:3])
            await asyncio.sleep(0.02)
            theirs.sendall(NUMBER.pack(0)[3:])
            await asyncio.sleep(0.02)
            theirs.sendall(NUMBER.pack(7) + NUMBER.pack(-errno.EAGAIN) + NUMBER.pack(8)[:1])
            await asyncio.sleep(0.02)
            theirs.sendall(NUMBER.pack(8)[1:])
            first, refused, last = await asyncio.gather(*orders, return_exceptions=True)
        murmur.close()
        assert isinstance(first, Adopted)
        assert isinstance(refused, OSError)
        assert isinstance(last, Adopted)
        assert (first.pid, refused.errno, last.pid) == (7, errno.EAGAIN, 8)
        assert await parent.end() == -signal.SIGKILL

    run(main())


def test_who_waits_for_a_copy_hears_at_once_that_the_process_has_ended(run: Run) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        parent = Parent(subprocess.Popen(["true"]), ours)
        await asyncio.get_running_loop().create_connection(lambda: parent, sock=ours)
        murmur = Murmur()
        workers, _ = ways = socket.socketpair()  # not its own, which an order on its way would keep open
        with theirs:
            theirs.sendall(NUMBER.pack(0))
            order = asyncio.create_task(parent.copied(workers, murmur))
            while not parent._ordered:
                await asyncio.sleep(0)
        with pytest.raises(ConnectionResetError):
            await order
        for way in ways:
            way.close()
        murmur.close()
        await parent.end()

    run(main())


def test_a_process_that_lived_long_is_followed_by_another_one_at_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade.engine.fork_server.BACK_OFF_S", (60.0, 60.0))
    monkeypatch.setattr("saccade.engine.fork_server.LONG_LIFE_S", 0.0)

    async def main() -> None:
        async with running(Shelf(), fork_workers=True) as engine:
            dead = await settled(engine)
            os.kill(dead, signal.SIGKILL)
            while dead in others(engine):
                await asyncio.sleep(0.01)
            assert await settled(engine) != dead

    run(main())


def test_a_process_that_hangs_is_replaced_and_holds_up_one_load(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.engine.fork_server.FORK_S", 0.5)

    async def main() -> None:
        async with running(Shelf(m={}, n={}), fork_workers=True) as engine:
            hung = await settled(engine)
            os.kill(hung, signal.SIGSTOP)
            await engine.load("m")
            assert not any(map(is_copy, pids(engine)))
            assert not psutil.pid_exists(hung)
            assert await settled(engine) != hung
            await engine.load("n")
            assert len([pid for pid in pids(engine) if is_copy(pid)]) == 1

    run(main())


def test_orders_whose_descriptors_do_not_arrive_are_refused(run: Run) -> None:
    """The kernel leaves out, without an error, those that a process may not have."""

    async def main() -> None:
        async with running(Shelf(m={}, n={}, o={}, p={}), fork_workers=True) as engine:
            shared = await settled(engine)
            limits = resource.prlimit(shared, resource.RLIMIT_NOFILE)
            highest = max(map(int, os.listdir(f"/proc/{shared}/fd")))
            for name, room in (("m", 0), ("n", 1), ("o", 2)):
                lowest = [number for number in range(highest + 9) if not Path(f"/proc/{shared}/fd/{number}").exists()]
                resource.prlimit(shared, resource.RLIMIT_NOFILE, (lowest[room], limits[1]))
                await engine.load(name)
            assert not any(map(is_copy, pids(engine)))
            resource.prlimit(shared, resource.RLIMIT_NOFILE, limits)
            assert await settled(engine) == shared, "it has lived through it"
            await engine.load("p")
            assert len([pid for pid in pids(engine) if is_copy(pid)]) == 1

    run(main())


def test_workers_are_copied_where_ended_children_are_ignored(run: Run) -> None:
    """Some shells and supervisors start what they start that way; the system then tells nobody of their ends."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:

        async def main() -> None:
            async with running(Shelf(m={}), fork_workers=True) as engine:
                await engine.load("m")
                assert all(map(is_copy, pids(engine)))

        run(main())
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_nothing_stays_when_the_one_in_between_never_tells_the_workers_number(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("saccade.engine.fork_server.FORK_S", 0.5)
    once = tmp_path / "once"
    patch = f"""
import os
really = os.write
def write(descriptor, data):
    if len(data) != {NUMBER.size} or os.path.exists({str(once)!r}):
        return really(descriptor, data)
    open({str(once)!r}, "w").close()
    os.kill(os.getpid(), {int(number)})
os.write = write
"""
    put_first(tmp_path, monkeypatch, sitecustomize=patch)

    async def main() -> None:
        async with running(Shelf(m={}, n={}), fork_workers=True) as engine:
            await engine.load("m")
            assert once.exists()
            assert not any(map(is_copy, pids(engine)))
            await settled(engine)
            await engine.load("n")
            await asyncio.sleep(0.5)
            assert len(others(engine)) == 1, "a zombie, or one that is stopped for ever"

    run(main())


@pytest.mark.parametrize("library", [THREADS, "1 / 0\n"], ids=["threads", "broken"])
def test_a_runtime_that_cannot_be_imported_before_is_left_to_the_workers(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any, library: str
) -> None:
    """ONNX Runtime 1.31 starts threads when it is imported."""
    put_first(tmp_path, monkeypatch, onnxruntime=library)

    async def main() -> None:
        forks = ForkServer("onnxruntime")
        forks.start()
        worker = await forks.worker()
        assert is_copy(worker.process.pid)
        await worker.end()
        assert forks.ready
        await forks.close()

    with caplog.at_level(logging.WARNING, "saccade.engine"):
        run(main())
    assert caplog.records == []


def test_closing_while_models_are_loaded_leaves_nothing_and_says_nothing(run: Run, caplog: Any) -> None:
    async def main() -> None:
        for pause_s in (0.0, 0.005, 0.05, 0.2, 0.4, 0.6, 0.8):
            async with running(Shelf(m={}, n={}), fork_workers=True) as engine:
                loading = [asyncio.create_task(engine.load(name)) for name in "mn"]
                await asyncio.sleep(pause_s)
            await asyncio.wait_for(asyncio.gather(*loading, return_exceptions=True), 5)
            assert psutil.Process().children() == []

    with caplog.at_level(logging.WARNING, "saccade.engine"):
        run(main())
    assert [record.message for record in caplog.records] == []


def test_who_waits_for_the_first_process_is_not_forgotten_when_it_is_given_up(run: Run) -> None:
    async def main() -> None:
        forks = ForkServer("openvino")
        forks.start()
        order = asyncio.create_task(forks.worker())
        await forks.close()
        await (await asyncio.wait_for(order, 5)).end()

    run(main())


def test_who_gives_up_waiting_for_the_end_of_a_worker_leaves_nothing(run: Run) -> None:
    """As when a model is put away twice while it is loaded: a dead worker and a descriptor stayed for good."""

    async def main() -> None:
        before = len(os.listdir("/proc/self/fd"))
        fresh = await started()
        ending = asyncio.create_task(fresh.end())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ending.cancel()
        await asyncio.wait({ending})
        until = time.monotonic() + 10
        while (psutil.Process().children() or len(os.listdir("/proc/self/fd")) > before) and time.monotonic() < until:
            await asyncio.sleep(0.02)
        assert psutil.Process().children() == []

    run(main())
