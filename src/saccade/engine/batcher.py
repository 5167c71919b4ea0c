"""Several prepared images of one shape become one run of the graph.

On a graphics card a run of eight costs little more than a run of one. Nobody waits for company: an idle session runs
at once, and what has come meanwhile is the next batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from saccade.errors import Error, RunFailed, short_of

Tensors: TypeAlias = Mapping[str, NDArray[Any]]
Run: TypeAlias = Callable[[Tensors], list[NDArray[Any]]]


@dataclass(slots=True)
class Entry:
    """One image's tensors, and where its outputs go."""

    tensors: Tensors
    wanted: Callable[[], bool]
    key: tuple[Any, ...]
    done: threading.Event = field(default_factory=threading.Event)
    outputs: list[NDArray[Any]] | None = None
    error: Error | None = None
    batch: int = 1


class Batcher:
    """Forms batches of at most ``largest`` for ``run``; called from many threads, each waiting for its own outputs."""

    def __init__(self, run: Run, largest: int, runners: int = 1) -> None:
        self._run = run
        self.largest = largest
        self._entries: list[Entry] = []
        self._change = threading.Condition()
        self._open = True
        self._splits: bool | None = None
        self._threads = [threading.Thread(target=self._serve, name=f"batch-{n}", daemon=True) for n in range(runners)]
        for thread in self._threads:
            thread.start()

    def run(self, tensors: Tensors, wanted: Callable[[], bool]) -> tuple[list[NDArray[Any]], int]:
        """The outputs for these tensors, and in how large a batch they were made.

        ``wanted`` is asked when a batch is formed: an entry whose caller left or whose deadline passed is dropped.

        Raises:
            RunFailed: the graph failed on this very image, or it was dropped.
        """
        entry = Entry(tensors, wanted, _key(tensors))
        with self._change:
            if not self._open:
                raise RunFailed("The model is closed.")
            self._entries.append(entry)
            self._change.notify()
        entry.done.wait()
        if entry.outputs is not None:
            return entry.outputs, entry.batch
        try:
            raise entry.error or RunFailed("The call was given up before its turn.")
        finally:
            del entry  # an error knows this frame, and so the image: they would keep each other

    def close(self) -> None:
        """Ends the threads; entries that still wait are answered with RunFailed."""
        with self._change:
            self._open = False
            left, self._entries = self._entries, []
            self._change.notify_all()
        for entry in left:
            entry.done.set()
        for thread in self._threads:
            thread.join(5.0)

    def _serve(self) -> None:
        while True:
            with self._change:
                while self._open and not self._entries:
                    self._change.wait()
                if not self._open:
                    return
                batch = self._formed()
            if batch:
                self._answer(batch)
                del batch  # or the last images stay in memory until the next ones come

    def _formed(self) -> list[Entry]:
        """The oldest entry and those that fit to it; the others keep their places."""
        batch: list[Entry] = []
        rest: list[Entry] = []
        for entry in self._entries:
            if not entry.wanted():
                entry.done.set()
            elif not batch or (self._splits and len(batch) < self.largest and entry.key == batch[0].key):
                batch.append(entry)
            else:
                rest.append(entry)
        self._entries = rest
        return batch

    def _answer(self, batch: Sequence[Entry]) -> None:
        if len(batch) > 1 and self._together(batch):
            return
        for entry in batch:
            try:
                outputs = entry.outputs = self._run(entry.tensors)
                if self._splits is None:
                    # A length that happens to be that of a batch would tell nothing; that of a single one does.
                    self._splits = all(output.ndim > 0 and output.shape[0] == 1 for output in outputs)
            except Error as error:
                entry.error = error.with_traceback(None)  # which knows the entry
            except Exception as error:
                failed = RunFailed(f"The model failed on this image ({type(error).__name__}).")
                entry.error = short_of(error) or failed
            entry.done.set()

    def _together(self, batch: Sequence[Entry]) -> bool:
        """One run for all; False when that did not work, so that each is tried alone."""
        count = len(batch)
        try:
            names = batch[0].tensors.keys()
            outputs = self._run({name: np.concatenate([entry.tensors[name] for entry in batch]) for name in names})
        except Exception:
            return False
        if any(output.ndim == 0 or output.shape[0] != count for output in outputs):
            self._splits = False
            return False
        for index, entry in enumerate(batch):
            entry.outputs = [output[index : index + 1] for output in outputs]
            entry.batch = count
            entry.done.set()
        return True


def _key(tensors: Tensors) -> tuple[Any, ...]:
    """What must be equal for two entries to share a run."""
    return tuple(sorted((name, tensor.shape[1:], tensor.dtype.str) for name, tensor in tensors.items()))
