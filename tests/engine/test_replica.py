"""What a replica keeps of the work that it has done; its answers are tested through the engine."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from tests.engine.shelf import Shelf

from saccade.call import Clip, Options
from saccade.engine.job import End, Failed, Job, Reply
from saccade.engine.replica import Duty, Replica
from saccade.runtimes import simulated
from saccade.runtimes.session import Compute

STREAMS = 2


@pytest.fixture
def replica() -> Iterator[Replica]:
    opened = Replica(Shelf(m={"ms": 5}).card("m"), Compute(threads=2, streams=STREAMS), Duty())
    yield opened
    opened.close()


def test_all_videos_together_run_no_more_frames_side_by_side_than_one(
    replica: Replica, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ran side by side once keeps the memory of its tensors for as long as the model is loaded."""
    film = (data / "videos" / "synthetic_12frames_160x120.mp4").read_bytes()
    running, most, lock, run = 0, 0, threading.Lock(), simulated.SimulatedSession.run

    def counted(session: Any, tensors: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return run(session, tensors)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(simulated.SimulatedSession, "run", counted)
    replies: SimpleQueue[Reply] = SimpleQueue()
    for number in range(3):
        replica.submit(Job(id=number, options=Options(), clip=Clip(), credit=100), film, replies.put)
    came = [replies.get(timeout=30) for _ in range(3 * 13)]
    assert sum(isinstance(reply, End) for reply in came) == 3
    assert most == STREAMS


def test_a_video_that_is_left_leaves_the_others_their_turns(replica: Replica, data: Path) -> None:
    film = (data / "videos" / "synthetic_12frames_160x120.mp4").read_bytes()
    left: SimpleQueue[Reply] = SimpleQueue()
    replica.submit(Job(id=0, options=Options(), clip=Clip(), credit=1), film, left.put)
    left.get(timeout=30)  # from here on it waits for its reader
    other: SimpleQueue[Reply] = SimpleQueue()
    replica.submit(Job(id=1, options=Options(), clip=Clip(), credit=100), film, other.put)
    assert isinstance([other.get(timeout=30) for _ in range(13)][-1], End)
    replica.cancel(0)
    assert isinstance(left.get(timeout=30), End)
    assert replica.idle


def test_an_image_that_was_refused_is_kept_by_nobody(replica: Replica) -> None:
    broken = b"\xff\xd8\xff\xe0" + bytes(100_000)
    replies: SimpleQueue[Reply] = SimpleQueue()
    gc.collect()
    gc.disable()
    try:
        before = sys.getrefcount(broken)
        for number in range(5):
            replica.submit(Job(id=number, options=Options()), broken, replies.put)
        assert all(isinstance(replies.get(timeout=30), Failed) for _ in range(5))
        replica.close()
        assert sys.getrefcount(broken) == before
    finally:
        gc.enable()
