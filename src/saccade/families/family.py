"""A family turns an image into tensors and tensors into a Result, for all models of one architecture.

One file a family. It exports ``FAMILY``, a class that satisfies :class:`Family`; ``families/__init__.py`` finds it by
the file's name, and other packages add theirs through the entry-point group ``saccade.families``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.ops.grids import Grids
from saccade.ops.resize import Frame
from saccade.results import ByteArray, Result

Tensor: TypeAlias = NDArray[Any]
Tensors: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image made ready: ``tensors`` each with a leading axis of 1; the ``frame`` leads back to the image."""

    tensors: Tensors
    frame: Frame


class Family(Protocol):
    """Made once per model from its Card; ``prepare`` and ``read`` are called from many threads and keep no state."""

    def __init__(self, card: Card) -> None: ...

    def pixels(self) -> Mapping[str, Pixels]:
        """Which graph inputs take raw pixels, by name; "" stands for the graph's only image input.

        An input that is not named here gets its tensor as prepared (float32).
        """

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        """Tensors for one image of shape (height, width, 3), uint8."""

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Result:
        """The Result of one image; every output has a leading axis of 1."""


@runtime_checkable
class Worded(Protocol):
    """What a family offers besides, if its models compare pictures with texts that the caller sends.

    Such a model has a second graph, which turns texts into features. The model runs it for texts that are new and
    remembers what came of them; ``read`` is given that behind the outputs of the picture's graph, with a leading axis
    for the texts.
    """

    trial: Options
    """A call that any model of the family can answer, to try it with."""

    def text_card(self) -> Card:
        """The Card of the second graph."""

    def texts(self, options: Options) -> tuple[str, ...]:
        """What the picture is compared with. Raises BadOptions."""

    def tokens(self, texts: Sequence[str]) -> Tensors:
        """Tensors for the second graph, each with a leading axis for the texts. Raises BadOptions."""


@runtime_checkable
class Gridded(Protocol):
    """What a family offers besides, if it can do the arithmetic that ends the graph itself, for the few places that
    matter: then ``read`` takes the levels of :mod:`saccade.ops.grids`, too."""

    def grids(self) -> Grids | None:
        """What the heads give; None if this model's are read as the graph finishes them."""


def as_float32(tensor: Tensor) -> NDArray[np.float32]:
    """The tensor as float32, copied only if it has another type."""
    return np.asarray(tensor, dtype=np.float32)
