"""The two lanes of the heavy tests."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from tests import lanes
from tests.lanes import Room


def test_a_lane_that_is_done_takes_the_last_rooms_of_the_other_but_those_that_stay() -> None:
    ran: dict[str, list[str]] = {"first": [], "second": []}

    def run(room: Room) -> None:
        if threading.current_thread() is not threading.main_thread():
            ran["second"].append(room.name)
            return
        ran["first"].append(room.name)
        while room.name == "long" and threading.active_count() > before:
            time.sleep(0.01)

    before = threading.active_count()
    first = [Room("long", ()), Room("stays", (), stays=True), Room("b", ()), Room("c", ())]
    lanes.side_by_side(first, [Room("d", ())], run)
    assert ran == {"first": ["long", "stays"], "second": ["d", "c", "b"]}


def test_a_lane_ends_when_somebody_interrupts_the_other() -> None:
    ran = []

    def run(room: Room) -> None:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        ran.append(room.name)
        time.sleep(0.3)

    with pytest.raises(KeyboardInterrupt):
        lanes.side_by_side([Room("a", ())], [Room("b", ()), Room("c", ())], run)
    assert ran == ["b"]


def test_every_test_is_in_one_room() -> None:
    rooms = [room for lane in lanes.lanes() for room in lane]
    files = [file for room in rooms for path in map(Path, room.paths) for file in _tests_in(path)]
    assert sorted(files) == sorted(lanes.TESTS.rglob("test_*.py"))


def _tests_in(path: Path) -> list[Path]:
    return list(path.rglob("test_*.py")) if path.is_dir() else [path]
