"""What a graph makes of texts, remembered for the texts that come again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Entry: TypeAlias = tuple[NDArray[Any], ...]
"""One text's part of every output, without the leading axis."""

MOST = 8192
"""Texts that are remembered: 16 MB of 512 numbers each."""
SETS = 8
"""Answers that are remembered as they are, for callers who always bring the same texts."""
AT_ONCE = 16
"""Texts of one run; more cost memory, and other callers wait longer for their turn."""


class Lexicon:
    """Thread-safe. A text that several callers bring at the same time is computed once."""

    def __init__(self, compute: Callable[[Sequence[str]], Sequence[NDArray[Any]]], most: int = MOST) -> None:
        """``compute`` turns texts into outputs whose leading axis is theirs."""
        self._compute = compute
        self._most = most
        self._known: OrderedDict[str, Entry] = OrderedDict()
        self._sets: OrderedDict[tuple[str, ...], list[NDArray[Any]]] = OrderedDict()
        self._reading = threading.Lock()
        self._computing = threading.Lock()

    def __call__(self, texts: tuple[str, ...]) -> list[NDArray[Any]]:
        """The outputs for these texts, in their order; nobody changes them. Raises what ``compute`` raises."""
        with self._reading:
            if texts in self._sets:
                self._sets.move_to_end(texts)
                return self._sets[texts]
        found = self._kept(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        for start in range(0, len(missing), AT_ONCE):
            found |= self._computed(missing[start : start + AT_ONCE])
        outputs = [np.stack(parts) for parts in zip(*(found[text] for text in texts), strict=True)]
        with self._reading:
            self._sets[texts] = outputs
            while len(self._sets) > SETS:
                self._sets.popitem(last=False)
        return outputs

    def _kept(self, texts: Sequence[str]) -> dict[str, Entry]:
        with self._reading:
            found = {text: self._known[text] for text in texts if text in self._known}
            for text in found:
                self._known.move_to_end(text)
            return found

    def _computed(self, texts: Sequence[str]) -> dict[str, Entry]:
        with self._computing:
            found = self._kept(texts)  # another caller may have brought them meanwhile
            missing = [text for text in texts if text not in found]
            if missing:
                outputs = self._compute(missing)
                fresh = {text: tuple(np.array(part[row]) for part in outputs) for row, text in enumerate(missing)}
                self._keep(fresh)
                found |= fresh
            return found

    def _keep(self, fresh: dict[str, Entry]) -> None:
        with self._reading:
            self._known |= fresh
            while len(self._known) > self._most:
                self._known.popitem(last=False)
