"""Branches of a head, computed only at the places of a grid that somebody asks for.

A branch is a short chain of convolutions of step 1 over the features of one grid. Which boxes may be kept shows in the
classes; what the chain makes of a place depends on the features of a few places around it, and a photo has some dozen
places that may be kept, of thousands.

Features are (1, height, width, channels) of float32, or of uint16 that holds the bits of bfloat16. Places are counted
row by row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from saccade.ops.boxes import Rows
from saccade.results import FloatArray

Activation: TypeAlias = Literal["", "silu", "relu"]

FEW, MANY = 75, 14
"""When more than these and one of so many places are asked for, all are computed sooner."""

SHAPES = 64
"""For so many sizes of grids what depends on the size alone is kept."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution with as many zeros around the grid as leave its size as it is, and what is done to its numbers.

    ``weights`` (side · side · channels before, channels), in this order; ``bias`` (channels).
    """

    weights: FloatArray
    bias: FloatArray
    side: int
    activation: Activation

    def __call__(self, patches: FloatArray) -> FloatArray:
        """(n, side · side · channels before) → (n + 1, channels), the last row of which is zeros."""
        table = np.empty((len(patches) + 1, len(self.bias)), np.float32)
        table[-1] = 0
        numbers = table[:-1]
        np.matmul(patches, self.weights, out=numbers)
        numbers += self.bias
        match self.activation:
            case "silu":
                gate = np.negative(numbers)
                np.exp(gate, out=gate)
                gate += np.float32(1)
                numbers /= gate
            case "relu":
                np.maximum(numbers, 0, out=numbers)
        return table


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """The layers in their order; ``everywhere`` gives (height · width, channels) of all places sooner than they do."""

    layers: tuple[Layer, ...]
    everywhere: Callable[[NDArray[Any]], FloatArray] | None = None

    @property
    def channels(self) -> int:
        """How many numbers come of a place."""
        return len(self.layers[-1].bias)

    @property
    def sides(self) -> tuple[int, ...]:
        """Those of the layers' squares."""
        return tuple(layer.side for layer in self.layers)

    def at(self, features: NDArray[Any], places: Rows) -> FloatArray:
        """(n, channels) at these places."""
        return numbers_at([deferred(features, self)], places)[0]


class Deferred(np.ndarray[Any, Any]):
    """Features that stand for what a branch makes of them."""

    branch: Branch
    seconds = 0.0
    """What was spent on that."""

    def __array_finalize__(self, features: NDArray[Any] | None) -> None:
        if isinstance(features, Deferred):
            self.branch = features.branch


def deferred(features: NDArray[Any], branch: Branch) -> Deferred:
    """The features, without a copy."""
    made = features.view(Deferred)
    made.branch = branch
    return made


def seconds_on(parts: Iterable[NDArray[Any]]) -> float:
    """What was spent on those of the arrays that are deferred."""
    return sum(part.seconds for part in parts if isinstance(part, Deferred))


def numbers_at(parts: Sequence[Deferred], places: Rows) -> list[FloatArray]:
    """(n, channels) of each part at these places of one grid; what several branches need of the same features is
    gathered once."""
    begun = time.perf_counter()
    told: list[FloatArray] = []
    gathered: dict[tuple[int, tuple[int, ...]], _Gathered] = {}
    for part in parts:
        branch, (_, height, width, _) = part.branch, part.shape
        if not len(places):
            told.append(np.zeros((0, branch.channels), np.float32))
        elif branch.everywhere is not None and len(places) > FEW + height * width // MANY:
            told.append(branch.everywhere(part)[places])
        else:
            key = (part.__array_interface__["data"][0], branch.sides)
            if key not in gathered:
                gathered[key] = _gathered(part, branch.sides, places)
            told.append(_computed(branch.layers, gathered[key]))
    if parts:
        parts[0].seconds += time.perf_counter() - begun
    return told


class _Gathered(NamedTuple):
    """What the first layer takes, and for each later one which rows of what comes before it lie around each of its
    places; None if a place is all it needs. Behind the rows is one of zeros, for what lies outside the grid."""

    first: FloatArray
    later: list[NDArray[np.intp] | None]


def _gathered(features: NDArray[Any], sides: Sequence[int], places: Rows) -> _Gathered:
    _, height, width, channels = features.shape
    rim = max(sides) // 2
    line = width + 2 * rim
    wanted = places + places // width * (2 * rim) + rim * (line + 1)
    patches: list[NDArray[np.intp] | None] = []
    for side in reversed(sides):
        if side == 1:
            patches.append(None)
            continue
        around = wanted[:, None] + _offsets(side, line)
        asked = np.zeros((height + 2 * rim) * line, np.bool_)
        asked[around] = True
        asked &= _inside(height, width, rim)
        wanted = np.flatnonzero(asked)
        rows = np.full(len(asked), len(wanted), np.intp)
        rows[wanted] = np.arange(len(wanted))
        patches.append(rows[around])
    needed = wanted - wanted // line * (2 * rim) - rim * (width + 1)
    *later, near = patches
    return _Gathered(
        _around(_table(np.asarray(features).reshape(-1, channels).take(needed, axis=0)), near), later[::-1]
    )


def _around(table: FloatArray, near: NDArray[np.intp] | None) -> FloatArray:
    return table[:-1] if near is None else table.take(near, axis=0).reshape(len(near), -1)


def _computed(layers: Sequence[Layer], gathered: _Gathered) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):
        table = layers[0](gathered.first)
        for layer, near in zip(layers[1:], gathered.later, strict=True):
            table = layer(_around(table, near))
    return table[:-1]


def _table(rows: NDArray[Any]) -> FloatArray:
    """The rows' numbers, with one of zeros behind them."""
    table = np.zeros((len(rows) + 1, rows.shape[1]), np.float32)
    table[:-1] = as_floats(rows)
    return table


@lru_cache(SHAPES)
def _offsets(side: int, row: int) -> NDArray[np.intp]:
    steps = np.arange(side) - side // 2
    return (steps[:, None] * row + steps).reshape(-1)


@lru_cache(SHAPES)
def _inside(height: int, width: int, reach: int) -> NDArray[np.bool_]:
    grid = np.zeros((height + 2 * reach, width + 2 * reach), np.bool_)
    grid[reach:-reach, reach:-reach] = True
    return grid.reshape(-1)


def as_floats(part: NDArray[Any]) -> FloatArray:
    """The part's numbers; copied if they are bits of bfloat16."""
    if part.dtype == np.uint16:
        return (part.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(part, np.float32)
