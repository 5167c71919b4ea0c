"""Prometheus metrics of the server; the engine's own numbers are read from its ``info`` when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from saccade import __version__
from saccade.call import Answer

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
STAGES = ("queue", "decode", "preprocess", "inference", "postprocess")
COUNTED = {
    "accepted": "Calls that were let into the line.",
    "answered": "Calls that were answered.",
    "refused": "Calls that were refused at the door.",
    "would_refuse": "Calls that a dry run of admission would have refused.",
    "failed": "Calls that failed.",
    "cancelled": "Calls whose callers left.",
    "expired": "Calls whose deadline passed.",
    "retried": "Calls that were tried again.",
    "crashes": "Workers that died or hung.",
    "loads": "Models that were loaded.",
    "evictions": "Models that left memory for others.",
    "cache_hits": "Answers that came from the cache.",
    "cache_misses": "Calls whose answer was not in the cache.",
}
"""The numbers of the engine that only grow, and what they count: counters, whose names end in ``_total``."""

REMEMBERED = 1024
"""How many label combinations are kept at hand; models are names that were loaded, so there are few."""


class Family(msgspec.Struct, frozen=True):
    """A metric with its samples (name, labels, value), as it travels between processes."""

    name: str
    documentation: str
    kind: str
    samples: tuple[tuple[str, dict[str, str], float], ...]


class Metrics:
    """Counts what was answered. ``info`` gives the engine's state when the metrics are read.

    It may be asked in the event loop's thread only; what it said, and everything else, may be read in another.
    """

    def __init__(self, info: Callable[[], Mapping[str, Any]] = dict) -> None:
        self.info = info
        self.registry = CollectorRegistry()
        self._calls = Counter(
            "saccade_requests", "Answered requests.", ("dialect", "model", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "saccade_request_seconds",
            "From the head of a request to the last byte of its answer.",
            ("dialect", "model"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._stage = Histogram(
            "saccade_stage_seconds",
            "Time of one image in each stage.",
            ("model", "stage"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._errors = Counter(
            "saccade_errors", "Refused or failed requests by kind.", ("dialect", "error"), registry=self.registry
        )
        self._images = Counter("saccade_images", "Images and frames answered.", ("model",), registry=self.registry)
        self._hits = Counter(
            "saccade_cache_hits", "Answers that came from the result cache.", ("model",), registry=self.registry
        )
        self._sent = Counter("saccade_sent_bytes", "Bytes of answers.", registry=self.registry)
        self.inflight = Gauge("saccade_inflight_requests", "Requests being worked on.", registry=self.registry)
        self._series = lru_cache(REMEMBERED)(self._series_of)
        self._work = lru_cache(REMEMBERED)(self._work_of)

    def request(
        self, dialect: str, model: str, status: int, seconds: float, size: int, answers: Sequence[Answer], error: str
    ) -> None:
        """One finished request; ``model`` is the name of a model that answered, or ""."""
        count, clock = self._series(dialect, model, str(status))
        count.inc()
        clock.observe(seconds)
        self._sent.inc(size)
        if error:
            self._errors.labels(dialect, error).inc()
        for answer in answers:
            self.image(model, answer)

    def image(self, model: str, answer: Answer) -> None:
        """One answer of a model: those of a stream are counted as they come, those of all other requests at its end."""
        images, hits, stages = self._work(model)
        images.inc()
        if answer.cached:
            hits.inc()
            return
        timings = answer.timings
        stages[0].observe(timings.queue_ms * 1e-3)
        stages[1].observe(timings.decode_ms * 1e-3)
        stages[2].observe(timings.preprocess_ms * 1e-3)
        stages[3].observe(timings.inference_ms * 1e-3)
        stages[4].observe(timings.postprocess_ms * 1e-3)

    def families(self, info: Mapping[str, Any] | None = None) -> Iterator[Family]:
        """Everything, for another process; ``info`` is what the engine said, which is asked if that is None."""
        for metric in chain(self.registry.collect(), _engine_state(self.info() if info is None else info)):
            samples = tuple((sample.name, sample.labels, sample.value) for sample in metric.samples)
            yield Family(metric.name, metric.documentation, metric.type, samples)

    def text(self, others: Iterable[Iterable[Family]] = (), info: Mapping[str, Any] | None = None) -> bytes:
        """Everything in Prometheus' text format, with what other processes counted added; then this process itself.

        For a hundred models that takes a tenth of a second.
        """
        return generate_latest(_Sum(summed([self.families(info), *others]))) + generate_latest(_this_process())

    def _series_of(self, dialect: str, model: str, status: str) -> tuple[Counter, Histogram]:
        return self._calls.labels(dialect, model, status), self._seconds.labels(dialect, model)

    def _work_of(self, model: str) -> tuple[Counter, Counter, tuple[Histogram, ...]]:
        stages = tuple(self._stage.labels(model, stage) for stage in STAGES)
        return self._images.labels(model), self._hits.labels(model), stages


@cache
def _this_process() -> CollectorRegistry:
    """Its version, processor time, memory, descriptors and start, under the names that all programs have for them."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    build = Gauge("saccade_build_info", "Always 1; the version is its label.", ("version",), registry=registry)
    build.labels(__version__).set(1)
    return registry


def summed(parts: Iterable[Iterable[Family]]) -> list[Family]:
    """The same metrics of several processes as one; what was created several times was created when it was first."""
    first: dict[str, Family] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in (family for part in parts for family in part):
        first.setdefault(family.name, family)
        values = sums.setdefault(family.name, {})
        for name, labels, value in family.samples:
            key = name, tuple(labels.items())
            if name.endswith("_created"):
                values[key] = min(value, values.get(key, value))
            else:
                values[key] = values.get(key, 0.0) + value
    return [
        Family(
            name,
            family.documentation,
            family.kind,
            tuple((key[0], dict(key[1]), value) for key, value in sums[name].items()),
        )
        for name, family in first.items()
    ]


class _Sum(Collector):
    """Families as the library wants to see them."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.documentation, family.kind)
            for sample in family.samples:
                metric.add_sample(*sample)
            yield metric


def _engine_state(info: Mapping[str, Any]) -> Iterator[Metric]:
    """Every number in the engine's info; those under "models" and "endpoints" get the model's or endpoint's name as a
    label.

    The two names without our prefix are those of the Hugging Face toolkit, for dashboards that know them.
    """
    models = _by_name(info.get("models"))
    yield from _each("model", models)
    yield from _each("endpoint", _by_name(info.get("endpoints")))
    for key, value in info.items():
        if isinstance(value, int | float):
            family = _family("engine", key, f"{key} of the engine.")
            family.add_metric([], float(value))
            yield family
    waiting = sum(_number(facts, "queued") for facts in models.values())
    running = sum(_number(facts, "in_flight") for facts in models.values())
    yield GaugeMetricFamily("inf_queue_size", "Calls that wait.", waiting)
    yield GaugeMetricFamily("inf_batch_current_size", "Calls that run.", running)


def _each(of: str, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    found: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for name, facts in rows.items():
        for key, value in facts.items():
            if isinstance(value, int | float):
                family = found.setdefault(key, _family(of, key, f"{key} of each {of}.", (of,)))
                family.add_metric([name], float(value))
    yield from found.values()


def _family(of: str, key: str, otherwise: str, labels: Sequence[str] = ()) -> CounterMetricFamily | GaugeMetricFamily:
    name = f"saccade_{of}_{_metric(key)}"
    if key in COUNTED:
        return CounterMetricFamily(name, COUNTED[key], labels=labels)
    return GaugeMetricFamily(name, otherwise, labels=labels)


def _by_name(models: object) -> dict[str, Mapping[str, Any]]:
    if isinstance(models, Mapping):
        return {str(name): facts for name, facts in models.items() if isinstance(facts, Mapping)}
    rows = models if isinstance(models, list | tuple) else ()
    return {str(row["name"]): row for row in rows if isinstance(row, Mapping) and "name" in row}


def _number(facts: Mapping[str, Any], key: str) -> float:
    value = facts.get(key, 0)
    return float(value) if isinstance(value, int | float) else 0.0


def _metric(key: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in key).lower()
