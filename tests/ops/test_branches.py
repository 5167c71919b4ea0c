"""What a head's branch makes of single places of its grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade.ops.branches import Branch, Layer, deferred, numbers_at, seconds_on

HW = (7, 10)
CHANNELS = 6


def layer(numbers: np.random.Generator, before: int, after: int, side: int, activation: Any) -> Layer:
    weights = numbers.normal(size=(side * side * before, after)).astype(np.float32) / side
    return Layer(weights, numbers.normal(size=after).astype(np.float32), side, activation)


def branch(seed: int = 0, sides: tuple[int, ...] = (3, 3, 1), channels: int = 4, **settings: Any) -> Branch:
    numbers = np.random.default_rng(seed)
    widths = [CHANNELS, *[5] * (len(sides) - 1), channels]
    activations = [*[*(["silu", "relu"] * len(sides))][: len(sides) - 1], ""]
    steps = zip(widths, widths[1:], sides, activations, strict=False)
    return Branch(tuple(layer(numbers, *step) for step in steps), **settings)


def features(seed: int = 1, hw: tuple[int, int] = HW) -> NDArray[np.float32]:
    """With numbers that bfloat16 can hold."""
    made = np.random.default_rng(seed).normal(size=(1, *hw, CHANNELS)).astype(np.float32)
    return (made.view(np.uint32) & 0xFFFF0000).view(np.float32)


def slowly(layers: tuple[Layer, ...], given: NDArray[np.float32]) -> NDArray[np.float64]:
    """(height · width, channels): every place, by the definition of a convolution."""
    grid = given[0].astype(np.float64)
    for each in layers:
        rim = each.side // 2
        height, width, before = grid.shape
        padded = np.pad(grid, ((rim, rim), (rim, rim), (0, 0)))
        weights = each.weights.astype(np.float64).reshape(each.side, each.side, before, -1)
        made = np.zeros((height, width, weights.shape[3])) + each.bias
        for y, x in np.ndindex(each.side, each.side):
            made += padded[y : y + height, x : x + width] @ weights[y, x]
        match each.activation:
            case "silu":
                made *= 0.5 * (1 + np.tanh(made / 2))
            case "relu":
                made = np.maximum(made, 0)
        grid = made
    return grid.reshape(-1, grid.shape[2])


@pytest.mark.parametrize("sides", [(3, 3, 1), (3, 1), (5, 3), (1, 5, 1), (3,), (1,)], ids=str)
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_single_places_get_what_a_convolution_of_the_whole_grid_gives_them(sides: tuple[int, ...], half: bool) -> None:
    chain, given = branch(sides=sides), features()
    expected = slowly(chain.layers, given)
    held: NDArray[Any] = (given.view(np.uint32) >> 16).astype(np.uint16) if half else given
    count = HW[0] * HW[1]
    for places in ([0], [count - 1], [HW[1] - 1, HW[1]], [34, 35, 44, 45], list(range(count)), [61, 3, 3]):
        told = chain.at(held, np.array(places))
        np.testing.assert_allclose(told, expected[places], rtol=1e-4, atol=1e-4)
    assert chain.at(held, np.arange(0)).shape == (0, 4)


@pytest.mark.parametrize("hw", [(1, 1), (1, 8), (2, 2)], ids=str)
def test_a_grid_may_be_smaller_than_what_lies_around_a_place(hw: tuple[int, int]) -> None:
    chain, given = branch(sides=(5, 3, 3)), features(hw=hw)
    told = chain.at(given, np.arange(hw[0] * hw[1]))
    np.testing.assert_allclose(told, slowly(chain.layers, given), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("error")
def test_very_large_numbers_are_no_warning() -> None:
    chain = branch()
    told = chain.at(features() * 1e4, np.array([12]))
    np.testing.assert_allclose(told, slowly(chain.layers, features() * 1e4)[[12]], rtol=1e-3)


def test_branches_of_the_same_features_do_not_mix() -> None:
    one, other, third = branch(2), branch(3, channels=7), branch(4, sides=(3, 1))
    given, elsewhere = features(), features(5)
    parts = [deferred(given, one), deferred(given, other), deferred(given, third), deferred(elsewhere, one)]
    places = np.array([5, 33, 69])
    told = numbers_at(parts, places)
    for part, numbers in zip(parts, told, strict=True):
        np.testing.assert_allclose(numbers, slowly(part.branch.layers, np.asarray(part))[places], rtol=1e-4, atol=1e-4)
    assert seconds_on(parts) > 0
    assert seconds_on([given]) == 0


def test_where_many_places_are_asked_for_all_are_computed_at_once() -> None:
    asked: list[tuple[int, ...]] = []

    def everywhere(given: NDArray[Any]) -> NDArray[np.float32]:
        asked.append(given.shape)
        return slowly(plain.layers, np.asarray(given)).astype(np.float32)

    plain = branch()
    chain = Branch(plain.layers, everywhere)
    given = features(hw=(20, 30))
    for count in (1, 9, 90):
        chain.at(given, np.arange(count))
    assert not asked
    told = chain.at(given, np.arange(10, 410))
    assert asked == [given.shape]
    np.testing.assert_allclose(told, plain.at(given, np.arange(10, 410)), rtol=1e-4, atol=1e-4)
