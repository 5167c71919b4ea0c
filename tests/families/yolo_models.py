"""The shared YOLO models, opened once for all tests, and photos to show them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from saccade.card import Card
from saccade.media import decode
from saccade.model import Model
from saccade.results import ByteArray
from saccade.runtimes.session import Compute
from saccade.stores.local import Local


@cache
def card(folder: Path, name: str) -> Card:
    found = Local([folder]).find(name)
    assert found is not None, name
    return found


@cache
def opened(folder: Path, name: str, precision: str = "f32") -> Model:
    """A model of the folder, compiled for the whole machine; kept open for the tests that follow."""
    compute = Compute(precision="auto" if precision == "auto" else "f32", threads=2, lone=False, shapes=0)
    return Model(card(folder, name), compute)


@cache
def photo(path: Path) -> ByteArray:
    return decode(path.read_bytes()).rgb
