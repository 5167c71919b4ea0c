"""The line, the cache and the batcher, each alone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections import Counter
from typing import Any, ClassVar

import numpy as np
import pytest

from saccade.call import Answer, Call, Options
from saccade.card import Card
from saccade.engine import wire
from saccade.engine.admission import Counts, Entry, Line
from saccade.engine.batcher import Batcher
from saccade.engine.cache import Cache, key_of
from saccade.engine.files import Files
from saccade.engine.fork_server import ForkServer
from saccade.engine.fresh import Fresh, reached
from saccade.engine.hands import Hands
from saccade.engine.job import Done, Job, Reply
from saccade.engine.link import OnLost, OnReply
from saccade.engine.memory import Memory
from saccade.engine.murmur import Murmur
from saccade.engine.process import ProcessLink
from saccade.engine.replica import Duty
from saccade.engine.residency import Residency
from saccade.engine.resident import Resident
from saccade.engine.rules import Rules
from saccade.errors import OutOfMemory, Overloaded, RunFailed, TooLarge
from saccade.results import Labels
from saccade.runtimes.session import Compute

CARD = Card(name="m", task="classify", family="x", runtime="y", revision="1")


def answer(count: int = 1, scores: int | None = None) -> Answer:
    numbers = np.zeros(count if scores is None else scores, np.float32)
    result = Labels(np.zeros(count, np.int32), numbers, ("a",) * count)
    return Answer(result=result, image_hw=(1, 1))


class Waiting:
    """A line and the entries that were put into it."""

    def __init__(self, limit: int = 100) -> None:
        self.loop = asyncio.new_event_loop()
        self.line = Line("m", limit, Counts())
        self.number = 0
        self.room = 10

    def come(self, caller: str, priority: int = 0, patience_s: float = 60.0) -> Entry:
        self.number += 1
        now = time.monotonic()
        call = Call(model="m", media=b"", caller=caller, priority=priority)
        entry = Entry(self.number, call, self.loop.create_future(), now, now + patience_s)
        self.line.admit(entry, slots=2, busy=2, room=self.room)
        return entry

    def order(self) -> list[str]:
        taken: list[str] = []
        while (entry := self.line.take()) is not None:
            taken.append(entry.call.caller)
        return taken


def test_callers_of_a_line_take_turns() -> None:
    waiting = Waiting()
    for caller in "aaaabbc":
        waiting.come(caller)
    assert "".join(waiting.order()) == "abcabaa"


def test_a_higher_priority_goes_first_and_a_call_that_was_put_back_before_its_callers_others() -> None:
    waiting = Waiting()
    waiting.come("a")
    second = waiting.come("b", priority=5)
    assert waiting.line.take() is second
    waiting.come("b", priority=5)
    waiting.line.put_back(second)
    assert waiting.line.take() is second
    assert len(waiting.line) == 2


def test_calls_that_were_put_back_go_before_those_that_never_had_their_turn() -> None:
    waiting = Waiting()
    for caller in "abcd":
        waiting.come(caller)
    sent = [waiting.line.take(), waiting.line.take()]
    for entry in reversed(sent):
        assert entry is not None
        waiting.line.put_back(entry)
    assert "".join(waiting.order()) == "abcd"


def test_a_call_is_not_refused_as_late_for_the_flood_of_another_caller_that_it_goes_before() -> None:
    waiting = Waiting()
    waiting.line.pace.note(1.0)
    for caller in "a" * 40:
        waiting.come(caller)
    waiting.come("b", patience_s=5.0)
    with pytest.raises(Overloaded, match="has 41 calls before yours"):
        waiting.come("a", patience_s=5.0)
    with pytest.raises(Overloaded, match="has 41 calls before yours"):
        waiting.come("b", priority=-1, patience_s=5.0)
    with pytest.raises(Overloaded, match="has 2 calls before yours"):
        waiting.come("c", patience_s=2.0)
    assert waiting.order()[:2] == ["a", "b"]


def test_two_callers_that_flood_a_line_leave_room_for_a_third() -> None:
    waiting = Waiting(limit=64)
    taken: Counter[str] = Counter()
    for _ in range(300):
        for caller in "ab" * 40:
            with contextlib.suppress(Overloaded):
                waiting.come(caller)
        if not any(entry.call.caller == "c" for entry in waiting.line):
            waiting.come("c")
        entry = waiting.line.take()
        assert entry is not None
        taken[entry.call.caller] += 1
    assert taken == {"a": 100, "b": 100, "c": 100}


def test_a_caller_alone_fills_three_quarters_of_a_line() -> None:
    waiting = Waiting(limit=64)
    for number in range(48):
        waiting.come("a", priority=-(number % 3))  # everybody may step back
    with pytest.raises(Overloaded, match="You have 48 calls waiting"):
        waiting.come("a")
    waiting.come("b")


def test_who_comes_when_all_lines_together_are_full_is_told_that() -> None:
    """It was told that its model has no calls waiting, which is as many as may."""
    waiting = Waiting()
    waiting.room = 0
    with pytest.raises(Overloaded, match=r"^As many calls wait for all models together as may\."):
        waiting.come("a")


def test_in_the_shortest_line_there_is_room_for_one() -> None:
    waiting = Waiting(limit=1)
    waiting.come("a")
    with pytest.raises(Overloaded, match="has 1 calls waiting"):
        waiting.come("b")


def test_a_call_that_left_is_taken_out_once() -> None:
    waiting = Waiting()
    first, second = waiting.come("a"), waiting.come("a")
    assert waiting.line.discard(first)
    assert not waiting.line.discard(first)
    assert waiting.line.take() is second
    assert not waiting.line.discard(second)
    assert len(waiting.line) == 0


@pytest.mark.parametrize("priority", [0, 5])
def test_a_caller_whose_last_call_left_holds_nobody_up(priority: int) -> None:
    waiting = Waiting()
    left, stays = waiting.come("a", priority=priority), waiting.come("b")
    assert waiting.line.discard(left)
    assert waiting.line.take() is stays
    assert waiting.line.take() is None


class Answering:
    """A way to a replica that answers when it is told to."""

    slots, memory_bytes, culprit, killed = 1, 0, None, False
    facts: ClassVar[dict[str, str | int | float]] = {}

    def __init__(self, on_reply: OnReply) -> None:
        self._on_reply = on_reply
        self.closed = False

    async def open(self) -> None: ...

    async def close(self) -> None:
        await asyncio.sleep(0.2)
        self.closed = True

    async def check(self, patience_s: float) -> None: ...

    def send(self, job: Job, data: bytes) -> None:
        self.id = job.id

    def cancel(self, job_id: int) -> None: ...

    def grant(self, job_id: int, frames: int) -> None: ...

    def kill(self) -> None: ...

    def answers(self) -> None:
        self._on_reply(self, Done(self.id, answer()))


def test_a_call_whose_caller_leaves_while_the_answer_comes_is_counted() -> None:
    """Neither as answered nor as cancelled it was: what was accepted grew away from what became of it."""

    async def main() -> None:
        links: list[Answering] = []

        def connect(card: Card, on_reply: OnReply, on_lost: OnLost) -> Answering:
            links.append(Answering(on_reply))
            return links[-1]

        resident = Resident(CARD, Rules(), connect, room=lambda: 10)
        await resident.load()

        async def asked() -> None:
            entry = resident.submit(Call(model="m", media=b""), time.monotonic() + 60)
            try:
                await entry.answer
            except asyncio.CancelledError:
                resident.drop(entry)
                raise

        for leaves in (False, True):
            caller = asyncio.create_task(asked())
            await asyncio.sleep(0)
            if leaves:
                caller.cancel()
            links[0].answers()
            await asyncio.wait({caller})
        counts = resident.counts
        assert (counts.accepted, counts.answered, counts.cancelled) == (2, 1, 1)
        assert not resident.busy
        await resident.retire()

    asyncio.run(main())


class Mortal(Answering):
    """One that may die of a call, and takes several."""

    slots = 4

    def __init__(self, on_reply: OnReply, on_lost: OnLost, openings: asyncio.Semaphore) -> None:
        super().__init__(on_reply)
        self._on_lost = on_lost
        self._openings = openings
        self.alive = False
        self.fault: RunFailed | None = None
        self.jobs: list[int] = []

    async def open(self) -> None:
        await self._openings.acquire()
        if self.fault is not None:
            raise self.fault
        self.alive = True

    def send(self, job: Job, data: bytes) -> None:
        self.jobs.append(job.id)

    def dies(self, of: Entry | None = None) -> None:
        self.alive = False
        self.culprit = None if of is None else (of.id, TooLarge("The image takes longer than 20 s to decode."))  # type: ignore[assignment]
        self._on_lost(self, "it ended itself")

    def answers(self) -> None:
        for number in self.jobs:
            self._on_reply(self, Done(number, answer()))


class Mortals:
    """A model and its replicas, of which so many may be opened."""

    def __init__(self, openings: int = 100, **rules: Any) -> None:
        self.openings = asyncio.Semaphore(openings)
        self.broken = False
        self.links: list[Mortal] = []
        self.resident = Resident(CARD, Rules(**rules), self._connect, room=lambda: 10)

    def _connect(self, card: Card, on_reply: OnReply, on_lost: OnLost) -> Mortal:
        self.links.append(Mortal(on_reply, on_lost, self.openings))
        if self.broken:
            self.links[-1].fault = RunFailed("The weights are gone.")
        return self.links[-1]

    def asked(self) -> Entry:
        return self.resident.submit(Call(model="m", media=b""), time.monotonic() + 60)

    async def up(self, count: int = 1) -> list[Mortal]:
        """Those that live, once there are so many."""
        async with asyncio.timeout(20):
            while len(alive := [link for link in self.links if link.alive]) != count:
                await asyncio.sleep(0.01)
        return alive


def test_images_that_end_one_worker_after_another_fail_alone() -> None:
    """A call that happened to be beside two of them was given up, and five in a row were taken for the model's end."""

    async def main() -> None:
        model = Mortals()
        await model.resident.load()
        innocent = model.asked()
        for _ in range(7):
            guilty = model.asked()
            (link,) = await model.up()
            link.dies(of=guilty)
            with pytest.raises(TooLarge):
                await guilty.answer
        (link,) = await model.up()
        link.answers()
        assert (await asyncio.wait_for(innocent.answer, 5)).model == ""
        assert model.resident.state == "warm"
        counts = model.resident.counts
        assert (counts.accepted, counts.answered, counts.failed, counts.crashes) == (8, 1, 7, 7)
        await model.resident.retire()

    asyncio.run(main())


def test_a_call_that_is_beside_two_ends_that_nobody_explains_is_given_up() -> None:
    async def main() -> None:
        model = Mortals()
        await model.resident.load()
        asked = model.asked()
        for _ in range(2):
            (link,) = await model.up()
            link.dies()
        with pytest.raises(RunFailed, match="died while it ran this call: it ended itself"):
            await asked.answer
        await model.resident.retire()

    asyncio.run(main())


def test_a_replica_that_is_lost_while_the_others_are_opened_is_replaced() -> None:
    async def main() -> None:
        model = Mortals(openings=1, replicas=3)
        loading = asyncio.create_task(model.resident.load())
        (first,) = await model.up()
        first.dies()
        for _ in range(3):
            model.openings.release()
        await loading
        await model.up(3)
        await asyncio.sleep(0)
        assert len(model.resident.facts()) == 3
        await model.resident.retire()

    asyncio.run(main())


def test_a_replica_that_is_renewed_takes_calls_until_the_next_is_there() -> None:
    """They waited for as long as opening the model takes."""

    async def main() -> None:
        model = Mortals(openings=1, worker_memory_bytes=1000)
        await model.resident.load()
        (old,) = await model.up()
        old.memory_bytes = 1001
        model.resident.tend()
        async with asyncio.timeout(20):
            while len(model.links) < 2:
                await asyncio.sleep(0)
        model.resident.tend()
        first = model.asked()
        assert old.jobs == [first.id]
        model.openings.release()
        _, new = await model.up(2)
        await asyncio.sleep(0)
        second = model.asked()
        third = model.asked()
        assert new.jobs == [second.id, third.id]
        assert not old.closed, "it has a call"
        old.answers()
        await first.answer
        async with asyncio.timeout(20):
            while not old.closed:
                await asyncio.sleep(0.01)
        new.answers()
        await asyncio.gather(second.answer, third.answer)
        new.memory_bytes = 1001
        model.resident.tend()
        await asyncio.sleep(0)  # it simply is so large, and is not opened again and again
        assert (len(model.links), len(model.resident.facts()), model.resident.counts.crashes) == (2, 1, 0)
        await model.resident.retire()

    asyncio.run(main())


def test_a_replica_that_could_not_be_renewed_is_replaced_when_it_is_lost() -> None:
    async def main() -> None:
        model = Mortals(worker_memory_bytes=1000)
        await model.resident.load()
        (old,) = await model.up()
        old.memory_bytes, model.broken = 1001, True
        model.resident.tend()
        async with asyncio.timeout(20):
            while not model.links[-1].closed:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        model.broken = False
        asked = model.asked()
        old.dies()
        (new,) = await model.up()
        new.answers()
        await asyncio.wait_for(asked.answer, 5)
        await model.resident.retire()

    asyncio.run(main())


def test_calls_of_a_lost_replica_go_to_the_other_one_at_once_and_in_their_order() -> None:
    async def main() -> None:
        model = Mortals(openings=2, replicas=2)
        await model.resident.load()
        first, second = await model.up(2)
        asked = [model.asked() for _ in range(4)]
        assert [len(first.jobs), len(second.jobs)] == [2, 2]
        first.dies()
        assert second.jobs == [asked[1].id, asked[3].id, asked[0].id, asked[2].id]
        second.answers()
        await asyncio.gather(*(entry.answer for entry in asked))
        await model.resident.close(RunFailed("The test is over."))

    asyncio.run(main())


def test_a_model_of_which_no_replica_can_be_opened_any_more_fails_for_those_who_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("saccade.engine.resident.BACK_OFF_S", (0.001, 0.01))

    async def main() -> None:
        model = Mortals()
        await model.resident.load()
        asked = model.asked()
        model.broken = True
        (link,) = await model.up()
        link.dies()
        with pytest.raises(RunFailed, match="weights are gone"):
            await asyncio.wait_for(asked.answer, 5)
        assert model.resident.state == "failed"
        with pytest.raises(RunFailed, match="weights are gone"):
            model.asked()
        await model.resident.retire()

    asyncio.run(main())


def test_a_model_that_was_opened_too_late_is_closed_whoever_puts_it_away_meanwhile() -> None:
    async def main() -> None:
        links: list[Answering] = []

        def connect(card: Card, on_reply: OnReply, on_lost: OnLost, files: Files | None) -> Answering:
            links.append(Answering(on_reply))
            return links[-1]

        async def hangs(card: Card) -> bool:
            return await asyncio.sleep(60, result=True)

        residency = Residency(Rules(load_timeout_s=0.1), Memory(1 << 40), connect, room=lambda: 10, is_still=hangs)
        loading = residency.begin(CARD)
        await asyncio.sleep(0.2)
        assert not loading.done(), "it is being closed"
        await residency.unload("m")
        await asyncio.sleep(0.3)
        assert [link.closed for link in links] == [True]

    asyncio.run(main())


class Stillborn(ForkServer):
    """One whose workers have ended before anybody could tell them what to open."""

    async def worker(self) -> Fresh:
        ours, theirs = socket.socketpair()
        theirs.close()
        fresh = await reached(subprocess.Popen([sys.executable, "-c", ""]), ours, Murmur())
        await fresh.gone.wait()
        return fresh


def test_nobody_listens_to_a_worker_that_ended_before_it_was_asked_for_anything() -> None:
    async def main() -> None:
        link = linked(lambda *_: None, Stillborn(""))
        with pytest.raises(RunFailed, match="died while it opened the model"):
            await link.open()
        await link.close()
        seen, link = weakref.ref(link), None  # type: ignore[assignment]
        await asyncio.sleep(0)
        gc.collect()
        assert seen() is None, "it would be listened to for as long as the server runs"

    asyncio.run(main())


def test_what_a_worker_holds_is_what_its_last_pulse_told() -> None:
    async def main() -> None:
        link = linked(lambda *_: None, ForkServer(""))
        for message in (wire.Opened(3, 1000), wire.Pulse(2000), wire.Pulse(1500)):
            link.data_received(wire.packed(message))
        assert (link.slots, link.opened_bytes, link.memory_bytes) == (3, 1000, 1500)

    asyncio.run(main())


def linked(on_reply: OnReply, forks: ForkServer) -> ProcessLink:
    return ProcessLink(
        CARD,
        Compute(),
        Duty(),
        on_reply,
        lambda *_: None,
        forks=forks,
        decode_s=1.0,
        hang_s=1.0,
        memory_bytes=0,
    )


@pytest.mark.parametrize("cut", [1, 7, 8, 64 << 10, 1 << 20])
def test_answers_come_out_as_they_went_in_however_they_are_cut(cut: int) -> None:
    """A large one held up the event loop for seconds: with every part all before it were copied."""
    counts = (3, 0, 50) if cut < 10 else (3, 8 << 20, 50, 0)

    async def main() -> None:
        seen: list[Reply] = []
        link = linked(lambda _, reply: seen.append(reply), ForkServer(""))
        whole = b"".join(
            wire.packed(wire.of_reply(Done(number, answer(1, scores=count)))) for number, count in enumerate(counts)
        )
        begun = time.process_time()
        for place in range(0, len(whole), cut):
            link.data_received(whole[place : place + cut])
        assert time.process_time() - begun < 1.0
        assert [reply.id for reply in seen] == list(range(len(counts)))
        assert [len(reply.answer.result.scores) for reply in seen if isinstance(reply, Done)] == list(counts)

    asyncio.run(main())


def test_the_time_to_come_back_grows_with_the_line() -> None:
    waiting = Waiting(limit=10)
    assert waiting.line.retry_after_s(2) > 0, "nothing is known yet, and 'at once' would be a loop"
    waiting.line.pace.note(1.0)
    waits: list[float] = []
    for _ in range(10):
        waiting.come("anonymous")
        waits.append(waiting.line.retry_after_s(2))
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(3.0)
    with pytest.raises(Overloaded) as raised:
        waiting.come("anonymous")
    assert raised.value.retry_after_s == pytest.approx(3.0)
    waiting.line.pace.note(11.0)
    assert waiting.line.retry_after_s(2) == pytest.approx(6.0), "one slow call says little about the next"


def test_the_cache_keeps_what_was_used_last_and_stays_within_its_bytes() -> None:
    async def main() -> None:
        cache = Cache(20_000, 60.0)
        for number in range(100):
            await cache.put(bytes([number]), answer(100))
            await cache.get(b"\x00")
            assert cache.bytes <= 20_000
        assert await cache.get(b"\x00") is not None
        assert await cache.get(b"\x01") is None
        assert await cache.get(bytes([99])) is not None
        await cache.put(b"huge", answer(10_000))
        assert await cache.get(b"huge") is None
        await cache.put(b"large", answer(700))
        assert await cache.get(b"large") is None, "it would be in the place of a quarter of all others"
        assert await cache.get(b"\x00") is not None
        await cache.close()
        assert cache.bytes == 0

    asyncio.run(main())


def test_the_cache_holds_no_more_than_it_counts() -> None:
    """Arrays lie in what was read at one time, other answers beside them; as objects, many names take several times as
    much as the bytes that they are read from."""

    async def main() -> None:
        cache = Cache(64 << 20, 60.0)
        tracemalloc.start()
        try:
            for number in range(50):
                read = memoryview(wire.packed_answer(answer(50_000)) + (small := wire.packed_answer(answer(100))))
                await cache.put(bytes([number]), wire.unpacked_answer(read[-len(small) :]))
                del read, small
            gc.collect()
            assert 0 < tracemalloc.get_traced_memory()[0] <= cache.bytes + 20_000
        finally:
            tracemalloc.stop()
        kept = await cache.get(b"\x00")
        assert kept is not None
        assert kept.cached
        assert (kept.result.names, kept.result.scores.tolist()) == (("a",) * 100, [0.0] * 100)

    asyncio.run(main())


def test_an_answer_of_the_shared_shelf_is_fetched_once() -> None:
    left_s = 60.0

    class Shelf:
        asked, closed, kept = 0, False, b""

        async def get(self, key: bytes) -> tuple[Answer, float] | None:
            self.asked += 1
            return (answer(), left_s) if self.asked == 1 else None

        async def put(self, key: bytes, answer: Answer) -> None:
            self.kept = key

        async def close(self) -> None:
            self.closed = True

    async def main() -> None:
        shelf = Shelf()
        cache = Cache(1 << 20, 60.0, shelf)
        assert await cache.get(b"k") is not None
        assert await cache.get(b"k") is not None, "the other process may be gone by now"
        assert shelf.asked == 1
        await cache.put(b"other", answer())
        assert shelf.kept == b"other"
        await cache.close()
        assert shelf.closed
        nonlocal left_s
        left_s, cache = 0.02, Cache(1 << 20, 60.0, Shelf())
        assert await cache.get(b"k") is not None
        await asyncio.sleep(0.03)
        assert await cache.get(b"k") is None, "it is no younger here than there"

    asyncio.run(main())


def test_the_cache_forgets_with_time() -> None:
    async def main() -> None:
        cache = Cache(1 << 20, 0.02)
        await cache.put(b"k", answer())
        assert await cache.get(b"k") is not None
        await asyncio.sleep(0.03)
        assert await cache.get(b"k") is None
        assert cache.bytes == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    "other",
    [
        {"media": b"2"},
        {"options": Options(conf=0.5)},
        {"annotate": True},
        {"card": {"revision": "2"}},
        {"card": {"task": "detect"}},
        {"precision": "f32"},
    ],
)
def test_a_key_differs_whenever_the_answer_may(other: dict[str, Any]) -> None:
    def key(
        media: bytes = b"1",
        options: Options = Options(),  # noqa: B008
        annotate: bool = False,
        card: dict[str, Any] | None = None,
        precision: str = "auto",
    ) -> bytes:
        facts = {"name": "m", "task": "classify", "family": "x", "runtime": "y", "revision": "1"} | (card or {})
        call = Call(model="any alias", media=media, options=options, annotate=annotate, caller=media.decode())
        return key_of(Card(**facts), call, precision)

    assert key() == key()
    assert key() != key(**other)


def test_entries_of_other_shapes_wait_for_their_own_batch() -> None:
    seen: list[tuple[int, ...]] = []
    gate = threading.Event()

    def run(tensors: Any) -> list[Any]:
        gate.wait(5)
        seen.append(tensors[""].shape)
        return [tensors[""] * 2]

    batcher = Batcher(run, 8)
    results: dict[int, Any] = {}

    def one(number: int) -> None:
        tensor = np.full((1, 2 if number % 2 else 3), number, np.float32)
        results[number], _ = batcher.run({"": tensor}, lambda: True)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    gate.set()
    for thread in threads:
        thread.join(5)
    batcher.close()
    assert all((results[number][0] == number * 2).all() for number in range(9))
    assert len(seen) <= 4


def test_one_who_left_is_not_run_and_a_closed_batcher_refuses() -> None:
    ran: list[int] = []

    def run(tensors: Any) -> list[Any]:
        ran.append(1)
        return [tensors[""]]

    batcher = Batcher(run, 4)
    with pytest.raises(RunFailed, match="given up"):
        batcher.run({"": np.zeros((1, 1))}, lambda: False)
    assert ran == []
    batcher.close()
    with pytest.raises(RunFailed, match="closed"):
        batcher.run({"": np.zeros((1, 1))}, lambda: True)


def test_who_waits_for_a_batch_when_the_model_is_closed_is_told() -> None:
    begun, gate = threading.Event(), threading.Event()
    told: list[str] = []

    def run(tensors: Any) -> list[Any]:
        begun.set()
        gate.wait(20)
        return [tensors[""]]

    def asks() -> None:
        try:
            batcher.run({"": np.zeros((1, 1))}, lambda: True)
        except RunFailed as error:
            told.append(error.message)
            gate.set()

    batcher = Batcher(run, 4)
    threads = [threading.Thread(target=asks, daemon=True) for _ in range(2)]
    threads[0].start()
    assert begun.wait(20)
    threads[1].start()
    while not batcher._entries:
        time.sleep(0.001)
    batcher.close()
    threads[1].join(5)
    assert told == ["The call was given up before its turn."]


@pytest.mark.parametrize("fails", [True, False])
def test_a_batch_that_is_done_is_kept_by_nobody(fails: bool) -> None:
    def run(tensors: Any) -> list[Any]:
        if fails:
            raise RunFailed("no")
        return [np.zeros((1, 1))]

    batcher, gone = Batcher(run, 4), []
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            image = np.zeros((1, 1))
            weakref.finalize(image, gone.append, 1)
            with pytest.raises(RunFailed) if fails else contextlib.nullcontext():
                batcher.run({"": image}, lambda: True)
            del image
        until = time.monotonic() + 5
        while len(gone) < 3 and time.monotonic() < until:
            time.sleep(0.001)
        assert len(gone) == 3
    finally:
        gc.enable()
        batcher.close()


def test_outputs_that_cannot_be_told_apart_are_run_alone() -> None:
    gate = threading.Event()

    def run(tensors: Any) -> list[Any]:
        gate.wait(5)
        return [tensors[""].sum(axis=0)]

    batcher = Batcher(run, 4)
    results: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda n=n: results.append(batcher.run({"": np.full((1, 2), n)}, lambda: True)[0][0][0])
        )
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    gate.set()
    for thread in threads:
        thread.join(5)
    batcher.close()
    assert sorted(results) == [0, 1, 2, 3]


def test_what_a_graph_says_of_an_image_is_told_to_who_sent_it() -> None:
    def run(tensors: Any) -> list[Any]:
        raise RunFailed("The card is out of memory.") if tensors[""].any() else ValueError("a secret path")

    batcher = Batcher(run, 4)
    with pytest.raises(RunFailed, match="out of memory"):
        batcher.run({"": np.ones((1, 1))}, lambda: True)
    with pytest.raises(RunFailed, match=r"^The model failed on this image \(ValueError\)\.$"):
        batcher.run({"": np.zeros((1, 1))}, lambda: True)
    batcher.close()


def test_an_image_for_which_there_is_no_memory_now_may_be_sent_again() -> None:
    def run(tensors: Any) -> list[Any]:
        raise MemoryError

    batcher = Batcher(run, 4)
    with pytest.raises(OutOfMemory, match="no more memory"):
        batcher.run({"": np.ones((1, 1))}, lambda: True)
    batcher.close()


def test_a_graph_that_makes_one_answer_of_a_batch_is_given_no_second_batch() -> None:
    gate = threading.Event()
    counts: list[int] = []

    def run(tensors: Any) -> list[Any]:
        gate.wait(5)
        counts.append(len(tensors[""]))
        return [tensors[""].sum(axis=0, keepdims=True)]

    batcher = Batcher(run, 4)
    results: list[float] = []
    threads = [
        threading.Thread(
            target=lambda n=n: results.append(batcher.run({"": np.full((1, 2), n)}, lambda: True)[0][0][0, 0])
        )
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    gate.set()
    for thread in threads:
        thread.join(5)
    batcher.close()
    assert sorted(results) == list(range(12))
    assert [count for count in counts if count > 1] == [4]


def test_hands_do_all_tasks_and_prefer_the_one_that_was_busy_last() -> None:
    done: list[tuple[int, str]] = []
    lock = threading.Lock()

    def work(task: int) -> None:
        with lock:
            done.append((task, threading.current_thread().name))

    hands: Hands[int] = Hands(3, work, "hand")
    for task in range(20):
        hands.give(task)
        until = time.monotonic() + 5
        while len(done) <= task and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(0.002)
    hands.close()
    assert [task for task, _ in done] == list(range(20))
    assert len({name for _, name in done[1:]}) == 1
