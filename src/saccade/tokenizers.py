"""Texts → numbers of tokens, as a ``tokenizer.json`` says. Needs the extra ``saccade[zero-shot]``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import CorruptFiles, MissingExtra


class Tokenizer:
    """Cuts and pads as its file says. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            MissingExtra: the library is not installed.
            CorruptFiles: the file is damaged.
        """
        try:
            library: Any = import_module("tokenizers")
        except ImportError:
            raise MissingExtra("Looking for what a text says", extra="zero-shot") from None
        try:
            self._tokenizer: Any = library.Tokenizer.from_file(str(path))
        except Exception:  # the library raises this very class
            raise CorruptFiles(
                f"{path.name} is not a tokenizer that can be read. Convert or pull the model again."
            ) from None

    def __call__(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The tokens' numbers, and 1 where a token is of the text and 0 where it pads: both (texts, tokens)."""
        found = self._tokenizer.encode_batch(list(texts))
        numbers = np.array([one.ids for one in found], np.int64)
        return numbers, np.array([one.attention_mask for one in found], np.int64)
