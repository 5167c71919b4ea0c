"""A session is an opened graph: tensors → tensors.

One file a runtime. It exports ``RUNTIME``, a callable of the form of :class:`Runtime`; ``runtimes/__init__.py`` finds
it by the file's name, and other packages add theirs through the entry-point group ``saccade.runtimes``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from saccade.card import MASK, Card, Pixels
from saccade.ops.grids import Grids


class Compute(msgspec.Struct, frozen=True, kw_only=True):
    """How to open a graph.

    ``precision`` "auto" is the device's best, "f32" the reference's. ``threads`` is the whole CPU budget of the
    session, ``streams`` how many calls run side by side inside it. ``cache_dir`` holds compiled graphs.
    ``lone`` compiles a second copy that gives a lone call all threads; ``shapes`` is how many static compiles of a
    dynamic graph are kept. ``hasty``: what only makes calls faster may come a moment after the first answers.
    """

    precision: Literal["auto", "f32"] = "auto"
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    streams: int = 1
    cache_dir: str | None = None
    lone: bool = True
    shapes: int = 4
    hasty: bool = False


class Session(Protocol):
    """Thread-safe; the leading axis of every tensor is the batch."""

    batchable: bool
    """Whether the graph takes more than one image at once."""

    def run(self, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The graph's outputs in its own order, as arrays that the caller owns.

        A tensor under "" goes to the graph's only (or image) input. Raises RunFailed.
        """

    def close(self) -> None:
        """Gives the memory back; a closed session is not used again."""


def suited(picture: Pixels, shape: Sequence[object], kind: str) -> Pixels:
    """The family's arithmetic as an input of this shape and type needs it.

    Graphs that TensorFlow made have the channels last, which shows in the shape; those that take bytes do the
    arithmetic themselves.
    """
    layout = "NHWC" if len(shape) == 4 and shape[3] == 3 != shape[1] else picture.layout
    if kind == "uint8":
        return Pixels(order=picture.order, layout=layout)
    return msgspec.structs.replace(picture, layout=layout)


def filled_up(tensor: NDArray[Any], shape: Sequence[object]) -> NDArray[Any]:
    """The tensor with empty images behind it, if the graph was exported for a fixed number of more than it has."""
    wanted = shape[0] if tensor.ndim and len(shape) == tensor.ndim else None
    if not isinstance(wanted, int) or wanted <= len(tensor):
        return tensor
    return np.concatenate([tensor, np.zeros((wanted - len(tensor), *tensor.shape[1:]), tensor.dtype)])


def masked(tensors: Mapping[str, NDArray[Any]], shape: Sequence[object]) -> Mapping[str, NDArray[Any]]:
    """The tensors with a mask of this shape, as exports of DETRs take it also where nothing is padded."""
    picture = tensors.get("")
    if MASK in tensors or picture is None or len(shape) != 3:
        return tensors
    sides = [side if isinstance(side, int) else size for side, size in zip(shape[1:], picture.shape[1:3], strict=True)]
    return {**tensors, MASK: np.ones((len(picture), *sides), np.int64)}


def cut_off(
    outputs: list[NDArray[Any]], given: Mapping[str, NDArray[Any]], ran: Iterable[NDArray[Any]]
) -> list[NDArray[Any]]:
    """The outputs without those of the images that were only filled in."""
    count, total = (max((len(tensor) for tensor in some if tensor.ndim), default=0) for some in (given.values(), ran))
    if count == total:
        return outputs
    return [output[:count] if output.ndim and len(output) == total else output for output in outputs]


class Runtime(Protocol):
    """Card → Session."""

    def __call__(
        self, card: Card, pixels: Mapping[str, Pixels], compute: Compute, grids: Grids | None = None
    ) -> Session:
        """Opens the card's files with the pictures' arithmetic put into the graph.

        ``grids`` is given if the family can finish what such heads give: then the session may answer with the levels
        of :mod:`saccade.ops.grids`, and the graph's further outputs behind them, instead of the finished table.

        Raises:
            CorruptFiles: the files cannot be read as a graph.
            MissingExtra: the runtime's library is not installed.
        """
