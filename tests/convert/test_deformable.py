"""Deformable attention is rewritten to the same sum, and nothing else is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray
from openvino import opset13 as opset

from saccade.convert.deformable import without_stacks

SIZES = ((6, 5), (3, 4))
PLACES = 7


def attention(
    points: tuple[int, int],
    stacked: bool,
    turned: bool = False,
    wider: int = 0,
    places: int = PLACES,
    kept: bool = False,
    weigh: Any = opset.multiply,
    shared: bool = False,
) -> Any:
    """As models write it: two levels of two heads with three channels are sampled, joined, weighed and added up."""
    inputs, samples = [], []
    for (height, width), count in zip(SIZES, points, strict=True):
        level = opset.parameter([2, 3, height, width], np.float32)
        grid = opset.parameter([2, places, count, 2], np.float32)
        inputs += [level, grid]
        attributes = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": False}
        sampled = opset.grid_sample(level, grid, attributes)
        samples.append(opset.unsqueeze(sampled, np.array([-2])) if stacked else sampled)
    if stacked:
        joined = opset.reshape(opset.concat(samples, -2), np.array([2, 3, places, sum(points)]), False)
    else:
        joined = opset.concat(samples, -1)
    weights = opset.parameter([sum(points)] if shared else [2, 1, places, sum(points)], np.float32)
    product = weigh(weights, joined) if turned else weigh(joined, weights)
    total = opset.reduce_sum(product, np.array([-1 - wider]), kept)
    return openvino.Model([total], [*inputs, weights], "attention")


def answers(graph: Any, seed: int = 3) -> NDArray[Any]:
    chance = np.random.default_rng(seed)
    given = [chance.uniform(-1.2, 1.2, tuple(port.shape)).astype(np.float32) for port in graph.inputs]
    found = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(given)
    return np.asarray(found[0])


def kinds(graph: Any) -> Counter[str]:
    return Counter(node.get_type_name() for node in graph.get_ops())


@pytest.mark.parametrize(
    ("points", "stacked", "turned"),
    [((4, 4), True, False), ((4, 4), True, True), ((4, 4), False, False), ((3, 6), False, True)],
)
def test_the_sum_stays_and_the_stack_goes(points: tuple[int, int], stacked: bool, turned: bool) -> None:
    graph = attention(points, stacked, turned)
    expected = answers(graph)
    assert np.abs(expected).max() > 0.1
    assert without_stacks(graph) == 1
    assert kinds(graph)["Concat"] == 0
    assert kinds(graph)["GridSample"] == 2
    np.testing.assert_allclose(answers(graph), expected, atol=1e-6)


@pytest.mark.parametrize(("points", "stacked"), [((4, 4), True), ((3, 6), False)])
def test_of_many_places_every_point_is_sampled_by_itself(points: tuple[int, int], stacked: bool) -> None:
    graph = attention(points, stacked, places=1200)
    expected = answers(graph)
    assert np.abs(expected).max() > 0.1
    assert without_stacks(graph) == 1
    assert kinds(graph)["GridSample"] == sum(points)
    assert kinds(graph)["ReduceSum"] == 0
    assert [tuple(port.shape) for port in graph.outputs] == [expected.shape]
    np.testing.assert_allclose(answers(graph), expected, atol=1e-6)


@pytest.mark.parametrize(
    "graph",
    [
        attention((4, 4), stacked=True, wider=1),
        attention((4, 4), stacked=True, kept=True),
        attention((4, 4), stacked=False, weigh=opset.add),
        attention((4, 4), stacked=False, shared=True),
    ],
    ids=["over places", "axis kept", "added to", "weights of one place for all"],
)
def test_another_sum_stays_as_it_is(graph: Any) -> None:
    before = kinds(graph)
    assert without_stacks(graph) == 0
    assert kinds(graph) == before
