"""The benchmarks' bad days in short form, with what they must show; figures of long runs are in docs/benchmarks.md."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from benchmarks.engine import chaos, cycles, overload, replicas, soak

pytestmark = pytest.mark.heavy


def figures(work: Any) -> dict[str, Any]:
    found: dict[str, Any] = asyncio.run(work)
    return found


def test_three_times_the_capacity_leaves_the_goodput_where_it_was() -> None:
    found = figures(overload.measure(seconds=10, times=3, timeout_s=2))
    assert found["goodput_of_capacity"] > 0.9
    assert found["refusal_p99_ms"] < 10
    assert found["refused"] > 1000
    assert (found["late"], found["wrong"], found["accepted_and_lost"]) == (0, 0, {})


def test_a_worker_killed_every_two_seconds_costs_no_answer() -> None:
    found = figures(chaos.measure(seconds=15, every_s=2, callers=8))
    assert found["kills"] >= 4
    assert (found["wrong"], found["failed"]) == (0, {})
    assert found["gap_longest_s"] < 4


def test_models_that_come_and_go_leave_nothing() -> None:
    found = figures(cycles.measure(cycles=20, models=5, mib=64))
    assert found["growth"] < 0.06
    assert found["descriptors_after"] <= found["descriptors_before"]
    assert found["processes_left"] == 0


def test_three_minutes_of_everything_leave_no_slope(data: Path) -> None:
    found: dict[str, Any] = soak.measure(data / "models", data, minutes=3)
    assert (found["unexpected"], found["wrong"]) == ({}, {})
    assert found["answered"] > 300
    assert len(found["by_kind"]) > 15
    assert found["kills"] >= 2
    assert found["cache_hits"] > 20
    middle, last = found["front_mib"]
    assert last - middle < 8
    fewest, most = found["descriptors"]
    assert most - fewest <= 12


def test_eight_replicas_answer_nearly_eight_times_as_much() -> None:
    found = figures(replicas.measure(seconds=3, most=8))
    assert found["replicas"]["8"]["times_one"] > 7
    assert all(row["failed"] == {} for row in found["replicas"].values())
