"""What one endpoint did: calls, errors and latencies by the minute, and the latest calls in words."""

from __future__ import annotations

import bisect
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import msgspec

Severity: TypeAlias = Literal["INFO", "WARNING", "ERROR"]

MINUTE, HOUR, DAY = 60, 3600, 86400
RANGES: dict[str, int] = {"1h": 3600, "6h": 6 * 3600, "24h": 86400, "7d": 7 * 86400, "30d": 30 * 86400}
POINTS = 60
"""A range is shown in at most this many points."""

KEPT_S = RANGES["30d"]
KEPT_LINES = 1000
EDGES_MS = tuple(itertools.accumulate(itertools.repeat(1.12, 110), lambda edge, factor: edge * factor, initial=0.5))
"""Upper edges of the latency histogram: 0.5 ms to about two minutes in steps of 12 %."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the log; ``timestamp`` is seconds since 1970."""

    timestamp: float
    severity: Severity
    message: str
    method: str = ""
    url: str = ""
    status: int = 0
    latency_ms: float = 0.0
    user_agent: str = ""


class Minute(msgspec.Struct):
    """Counts of one minute, or of one hour when it is over a day old."""

    requests: int = 0
    errors: int = 0
    latency_sum_ms: float = 0.0
    latency_bins: dict[int, int] = {}
    replicas: int = 0
    cpu: float = 0.0
    memory: float = 0.0

    def add(self, other: Minute) -> None:
        """Takes in what another counted."""
        self.requests += other.requests
        self.errors += other.errors
        self.latency_sum_ms += other.latency_sum_ms
        for place, count in other.latency_bins.items():
            self.latency_bins[place] = self.latency_bins.get(place, 0) + count
        self.replicas = max(self.replicas, other.replicas)
        self.cpu, self.memory = max(self.cpu, other.cpu), max(self.memory, other.memory)


class Report(msgspec.Struct, frozen=True):
    """What was counted in one place, on its way to where it is kept."""

    minutes: dict[int, Minute]
    lines: tuple[Line, ...]


class Figures:
    """Thread-compatible: used from the event loop only."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._minutes: dict[int, Minute] = {}
        self._lines: deque[Line] = deque(maxlen=KEPT_LINES)
        self.changed = False
        """Whether there is something that :meth:`report` has not told yet."""

    def count(self, line: Line, replicas: int) -> None:
        """One call that was answered, well or badly: with status 500 and above, or a stream that broke off (ERROR)."""
        minute = self._minute(line.timestamp)
        minute.requests += 1
        minute.errors += line.status >= 500 or line.severity == "ERROR"
        minute.latency_sum_ms += line.latency_ms
        place = bisect.bisect_left(EDGES_MS, line.latency_ms)
        minute.latency_bins[place] = minute.latency_bins.get(place, 0) + 1
        minute.replicas = max(minute.replicas, replicas)
        self._lines.append(line)
        self.changed = True

    def measured(self, cpu: float, memory: float, replicas: int) -> None:
        """What the endpoint used of its share of the processor and the memory, each 0 to 1."""
        minute = self._minute(self._clock())
        before = minute.cpu, minute.memory, minute.replicas
        minute.cpu, minute.memory = max(minute.cpu, cpu), max(minute.memory, memory)
        minute.replicas = max(minute.replicas, replicas)
        self.changed |= before != (minute.cpu, minute.memory, minute.replicas)

    def note(self, severity: Severity, message: str) -> None:
        """Something that happened to the endpoint itself."""
        self._lines.append(Line(timestamp=self._clock(), severity=severity, message=message))
        self.changed = True

    def report(self) -> Report:
        """All that is known, to be kept."""
        self.changed = False
        return Report(self._minutes, tuple(self._lines))

    def take(self) -> Report | None:
        """What was counted since this was last asked, and is forgotten here; None if nothing was."""
        if not self._minutes and not self._lines:
            return None
        report = Report(self._minutes, tuple(self._lines))
        self._minutes = {}
        self._lines.clear()
        return report

    def add(self, report: Report) -> None:
        """Takes in what was counted elsewhere, in the order in which it happened.

        What lies in the future was counted while a clock was ahead, and counts as of now: nobody would see it for days,
        nor, in a full log, what comes after it.
        """
        self.changed = True
        known, now = len(self._minutes), self._clock()
        latest = int(now // MINUTE) * MINUTE
        for moment, counted in report.minutes.items():
            self._minutes.setdefault(min(moment, latest), Minute()).add(counted)
        if len(self._minutes) > known:
            self._forget(int(now))
        if report.lines:
            told = (msgspec.structs.replace(one, timestamp=min(one.timestamp, now)) for one in report.lines)
            merged = sorted([*self._lines, *told], key=lambda line: line.timestamp)
            self._lines = deque(merged, maxlen=KEPT_LINES)

    def lines(self, limit: int, severity: str | None = None, before: float | None = None) -> list[Line]:
        """The latest entries first, of these severities (with commas between) or all, older than ``before``."""
        severities = severity.split(",") if severity else ()
        wanted = (
            line
            for line in reversed(self._lines)
            if (not severities or line.severity in severities) and (before is None or line.timestamp < before)
        )
        return list(itertools.islice(wanted, limit))

    def metrics(self, span: str) -> dict[str, Any]:
        """Summary and series of the last ``span`` (a key of RANGES), in the words of the Platform API."""
        seconds, now = RANGES[span], self._clock()
        step, first = _grid(seconds, now)
        groups: dict[int, list[Minute]] = {moment: [] for moment in range(first, int(now) + 1, step)}
        for moment, minute in self._minutes.items():
            place = moment // step * step
            if place in groups:
                groups[place].append(minute)
        return {
            "timeRange": {"start": iso(now - seconds), "end": iso(now)},
            "summary": _summary(itertools.chain(*groups.values())),
            "timeSeries": _series(groups),
        }

    def sparkline(self) -> dict[str, Any]:
        """The last day in short: requests by the hour, the last of which is not over, and the sums."""
        _, first = _grid(DAY, self._clock())
        hours = [0] * (DAY // HOUR)
        for moment, minute in self._minutes.items():
            if first <= moment < first + DAY:
                hours[(moment - first) // HOUR] += minute.requests
        summary = self.metrics("24h")["summary"]
        return {
            "requests24h": hours,
            "totalRequests": summary["totalRequests"],
            "errorRate": summary["errorRate"],
            "avgLatencyMs": summary["avgLatencyMs"],
        }

    def _minute(self, moment: float) -> Minute:
        now = int(moment // MINUTE) * MINUTE
        minute = self._minutes.get(now)
        if minute is None:
            minute = self._minutes[now] = Minute()
            self._forget(now)
        return minute

    def _forget(self, now: int) -> None:
        """Minutes of a day ago become hours, so that 30 days are some 2,200 entries; what is older goes."""
        for moment in [moment for moment in self._minutes if moment < now - DAY]:
            hour = moment // HOUR * HOUR
            if moment < now - KEPT_S:
                del self._minutes[moment]
            elif moment != hour:
                self._minutes.setdefault(hour, Minute()).add(self._minutes.pop(moment))


def _grid(seconds: int, now: float) -> tuple[int, int]:
    """How far apart the points of a range are, and where the first one lies; the last one is not over."""
    step = max(MINUTE, seconds // POINTS)
    return step, int((now - seconds) // step + 1) * step


def iso(moment: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _summary(minutes: Iterable[Minute]) -> dict[str, float]:
    every = list(minutes)
    requests = sum(minute.requests for minute in every)
    errors = sum(minute.errors for minute in every)
    return {
        "totalRequests": requests,
        "errorCount": errors,
        "errorRate": errors / requests if requests else 0.0,
        "avgLatencyMs": round(sum(minute.latency_sum_ms for minute in every) / requests, 3) if requests else 0.0,
        "p50LatencyMs": _quantile(every, 0.50),
        "p95LatencyMs": _quantile(every, 0.95),
        "p99LatencyMs": _quantile(every, 0.99),
    }


def _series(groups: dict[int, list[Minute]]) -> dict[str, list[dict[str, object]]]:
    def over(value: Callable[[list[Minute]], float]) -> list[dict[str, object]]:
        return [{"timestamp": iso(moment), "value": value(minutes)} for moment, minutes in groups.items()]

    return {
        "requests": over(lambda minutes: sum(minute.requests for minute in minutes)),
        "errors": over(lambda minutes: sum(minute.errors for minute in minutes)),
        "latencyP50": over(lambda minutes: _quantile(minutes, 0.50)),
        "latencyP95": over(lambda minutes: _quantile(minutes, 0.95)),
        "cpuUtilization": over(lambda minutes: max((minute.cpu for minute in minutes), default=0.0)),
        "memoryUtilization": over(lambda minutes: max((minute.memory for minute in minutes), default=0.0)),
        "instanceCount": over(lambda minutes: max((minute.replicas for minute in minutes), default=0)),
    }


def _quantile(minutes: Iterable[Minute], share: float) -> float:
    """The latency below which ``share`` of the calls stayed, to within a histogram step."""
    bins: dict[int, int] = {}
    for minute in minutes:
        for place, count in minute.latency_bins.items():
            bins[place] = bins.get(place, 0) + count
    rest = share * sum(bins.values())
    for place in sorted(bins):
        rest -= bins[place]
        if rest <= 0:
            return round(EDGES_MS[min(place, len(EDGES_MS) - 1)], 3)
    return 0.0
