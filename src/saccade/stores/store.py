"""A store knows models by name and brings their files to this machine."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from saccade.card import Card
from saccade.stores.catalogue import Offer


class Progress(Protocol):
    """Told how far a long piece of work has come; the command line draws it."""

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` units (bytes, unless ``what`` says otherwise); total None: not known."""


def silent(what: str, done: int, total: int | None) -> None:
    """A Progress that shows nothing."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Held by one process at a time; others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Store(Protocol):
    """One place where models live."""

    on_use: bool
    """Whether a call for a model that is not here may start a pull; else only a person does, by name."""

    def find(self, ref: str) -> Card | None:
        """The Card of a model whose files are on this machine, or None. Quick; opens no graph; touches no network."""

    def offers(self, ref: str) -> bool:
        """Whether :meth:`pull` would know what to do with this ref. Touches no network."""

    def offered(self) -> tuple[Offer, ...]:
        """Everything that can be fetched by a name that this store lists."""

    def pull(self, ref: str, progress: Progress = silent) -> Card:
        """Brings the files here, verified, and returns their Card.

        Raises:
            UnknownModel: the store has no such model.
            CorruptFiles: what arrived is not what the checksum says.
        """

    def cards(self) -> Iterable[Card]:
        """The Cards of everything that :meth:`find` would find."""
