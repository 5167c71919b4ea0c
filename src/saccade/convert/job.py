"""What the converting process is told and what it tells."""

from __future__ import annotations

from pathlib import Path

import msgspec

import saccade
from saccade.call import Options
from saccade.card import Card
from saccade.convert.agreement import Agreement, Numbers
from saccade.families.clip import TEXT_GRAPH, TOKENIZER

GRAPH = "model.xml"
WAYS = ("openvino", "onnx")
"""Of converting, the best first: OpenVINO's own reader of torch modules, and torch's exporter to ONNX."""
LABELS = ("a cat", "two dogs on a beach", "person", "car", "tree", "A big building, at night!", "food", "text")
"""What zero-shot classifiers are asked for while they are compared."""
CERTAIN = 0.95
"""The least agreement with the checkpoint at which the fast precision is used without being asked for."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Convert the checkpoint of ``card`` into ``folder`` and compare the answers for ``images``, paths of pictures;
    without any, for pictures that are made up. ``ways`` are those to be tried; why others are not says ``tried``."""

    card: Card
    folder: str
    images: tuple[str, ...] = ()
    threads: int = 0
    certain: float = CERTAIN
    ways: tuple[str, ...] = WAYS
    tried: tuple[str, ...] = ()

    def readings(self) -> tuple[Options, ...]:
        """The ways in which answers are compared: those that a user of the task gets."""
        if self.card.task == "segment" and self.card.family not in ("semantic",):
            subtasks = ("instance",) if self.card.family == "rfdetr" else ("panoptic", "semantic")
            return tuple(Options(subtask=name, conf=0.3) for name in subtasks)
        if self.card.task == "detect":
            return (Options(conf=-1.0, max_det=20),)
        if self.card.task == "zero-shot-classify":
            return (Options(candidate_labels=LABELS),)
        return (Options(),)


class Texts(msgspec.Struct, frozen=True, kw_only=True):
    """A model's second graph, which reads texts: the names of its ``inputs``, the ``longest`` text in tokens, and how
    far its numbers are from the checkpoint's."""

    inputs: tuple[str, ...]
    longest: int
    way: str
    numbers: Numbers | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a graph came about and how faithful it is; it is kept beside the graph.

    ``f32`` and ``auto`` compare answers with the checkpoint's at the two precisions, ``numbers`` raw outputs at f32.
    ``precision`` "f32": the fast precision answers too differently and is not used for this model. ``tried`` are the
    ways that failed before. ``labels`` are the checkpoint's own, where its config.json does not spell them out.
    """

    way: str
    dynamic: bool
    images: int
    input_hw: tuple[int, int] | None
    numbers: Numbers
    f32: Agreement
    auto: Agreement
    precision: str
    texts: Texts | None = None
    tried: tuple[str, ...] = ()
    labels: dict[int, str] = {}
    torch: str
    transformers: str
    seconds: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A report, or the error's class and sentence. ``version`` is the saccade that came to it: another one tries again
    what failed. ``unfed``: the checkpoint does not take pictures as its family prepares them. ``origin`` is where it
    lies."""

    report: Report | None = None
    error: str | None = None
    message: str = ""
    extra: str | None = None
    unfed: bool = False
    version: str = saccade.__version__
    origin: str = ""


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of standard output; ``way`` is the way of converting that is being tried."""

    what: str = ""
    done: int = 0
    total: int | None = None
    way: str = ""
    outcome: Outcome | None = None


def files_of(folder: Path, texts: Texts | None) -> tuple[Path, ...]:
    """What a conversion leaves in its folder, the picture's graph first."""
    graphs = (GRAPH,) if texts is None else (GRAPH, TEXT_GRAPH)
    files = [folder / (graph.removesuffix("xml") + end) for graph in graphs for end in ("xml", "bin")]
    return tuple(files if texts is None else [*files, folder / TOKENIZER])


def texted(card: Card, texts: Texts, folder: Path) -> Card:
    """The card with the files and facts of the graph for texts."""
    files = dict.fromkeys((*card.files, *map(str, files_of(folder, texts)[2:])))
    facts = {"inputs": list(texts.inputs), "longest": texts.longest}
    return msgspec.structs.replace(card, files=tuple(files), config={**card.config, "text": facts})
