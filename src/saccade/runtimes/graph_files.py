"""The files of a graph where a library finds them.

ONNX files may keep their weights in files beside them, which OpenVINO and ONNX Runtime refuse to read where the way
there leads out of the graph's folder. In the cache of the Hugging Face Hub every file is such a link.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from saccade.card import Card
from saccade.drafts import draft
from saccade.errors import CorruptFiles

SUFFIX = ".onnx"
FACTS = (".json", ".toml")
"""Files of a model that no graph names."""


@contextmanager
def together(files: Sequence[str], near: str | None) -> Iterator[Path]:
    """The graph, the first of the files, with its weights really beside it, for as long as it is being read.

    Where links lead elsewhere, all are put into a folder that is removed afterwards: without a copy where ``near``, a
    folder, is on the same disk.

    Raises:
        OSError: there is no room for a copy.
    """
    graph = Path(files[0])
    others = [path for path in map(Path, files[1:]) if path.parent == graph.parent and path.suffix not in FACTS]
    home = graph.parent.resolve()
    if graph.suffix != SUFFIX or all(path.resolve().parent == home for path in others):
        yield graph
        return
    with TemporaryDirectory() if near is None else draft(Path(near), "graph-") as folder:
        for path in (graph, *others):
            place(path.resolve(), Path(folder) / path.name)
        yield Path(folder) / graph.name


def place(source: Path, target: Path) -> None:
    """The same file under another name, or a copy where that is not possible."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file of somebody else's
        shutil.copyfile(source, target)


def unread(card: Card, error: OSError) -> CorruptFiles:
    """What to say where the system does not let the files be read."""
    why = error.strerror or "input/output error"
    return CorruptFiles(f"The files of the model '{card.name}' cannot be read: {why}.")
