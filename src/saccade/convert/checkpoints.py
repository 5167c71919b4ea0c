"""Ultralytics checkpoints taken into the library: exported by their own program, then checked before they are kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from saccade.card import Card
from saccade.errors import RunFailed, UnsupportedModel
from saccade.library import Library
from saccade.model import Model
from saccade.runtimes.session import Compute
from saccade.stores.local import Local
from saccade.stores.store import Progress, silent
from saccade.stores.ultralytics import Exporter

SIZES = ((480, 640), (640, 384))
"""Pictures of two shapes: a graph that was to be dynamic must take both."""


def add_checkpoint(
    library: Library, exporter: Exporter, name: str, checkpoint: Path, progress: Progress = silent
) -> Card:
    """Exports a checkpoint, tries the graph, and adds it under ``name``.

    Raises:
        UnsupportedModel: nothing is installed that could export it, or what came out cannot be served.
        CorruptFiles, RunFailed, BadOptions: see :meth:`Library.add` and the runtimes.
    """
    with tempfile.TemporaryDirectory(prefix="saccade-checkpoint-") as folder:
        graph = Path(folder) / f"{name.replace('/', '-')}.onnx"
        exporter.export(checkpoint, graph, progress)
        store = Local([graph])
        progress(f"trying {graph.name}", 0, 1)
        try_out(store.card(store.entries()[0]))
        progress(f"trying {graph.name}", 1, 1)
        return library.add(name, graph)


def try_out(card: Card) -> None:
    """Runs the model once for each of two shapes.

    Raises:
        UnsupportedModel: it is not the graph that was asked for, or it cannot be run.
    """
    if not card.dynamic:
        raise UnsupportedModel(
            f"The export of '{card.name}' takes pictures of one size only, though all were asked for."
        )
    model = Model(card, Compute(precision="f32", lone=False))
    try:
        for height, width in SIZES:
            model.predict(np.full((height, width, 3), 114, np.uint8))
    except RunFailed as error:
        raise UnsupportedModel(f"The export of '{card.name}' cannot be run: {error.message}") from error
    finally:
        model.close()
