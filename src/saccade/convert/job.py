"""What the converting process is told and what it tells."""

from __future__ import annotations

import msgspec

import saccade
from saccade.call import Options
from saccade.card import Card
from saccade.convert.agreement import Agreement, Numbers

GRAPH = "model.xml"
CERTAIN = 0.95
"""The least agreement with the checkpoint at which the fast precision is used without being asked for."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Convert the checkpoint of ``card`` into ``folder`` and compare the answers for ``images``, paths of pictures;
    without any, for pictures that are made up."""

    card: Card
    folder: str
    images: tuple[str, ...] = ()
    threads: int = 0
    certain: float = CERTAIN

    def readings(self) -> tuple[Options, ...]:
        """The ways in which answers are compared: those that a user of the task gets."""
        if self.card.task == "segment" and self.card.family not in ("semantic",):
            return tuple(Options(subtask=name, conf=0.3) for name in ("panoptic", "semantic"))
        if self.card.task == "detect":
            return (Options(conf=-1.0, max_det=20),)
        return (Options(),)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a graph came about and how faithful it is; it is kept beside the graph.

    ``f32`` and ``auto`` compare answers with the checkpoint's at the two precisions, ``numbers`` raw outputs at f32.
    ``precision`` "f32": the fast precision answers too differently and is not used for this model. ``tried`` are the
    ways that failed before.
    """

    way: str
    dynamic: bool
    images: int
    input_hw: tuple[int, int] | None
    numbers: Numbers
    f32: Agreement
    auto: Agreement
    precision: str
    tried: tuple[str, ...] = ()
    torch: str
    transformers: str
    seconds: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A report, or the error's class and sentence. ``version`` is the saccade that came to it: another one tries again
    what failed."""

    report: Report | None = None
    error: str | None = None
    message: str = ""
    extra: str | None = None
    version: str = saccade.__version__


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of standard output."""

    what: str = ""
    done: int = 0
    total: int | None = None
    outcome: Outcome | None = None
