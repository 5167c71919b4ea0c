"""Masks that are shrunk at once are computed small, to the same numbers, and no other masks are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray
from openvino import opset13 as opset

from saccade.convert.coarse import shrunk_first

QUERIES, CHANNELS, SIDE = 5, 6, 16
TORCH = {"coordinate_transformation_mode": "pytorch_half_pixel", "shape_calculation_mode": "sizes"}


def between_layers(
    sizes: tuple[tuple[int, int], ...] = ((4, 4), (8, 6), (4, 4)),
    mode: str = "linear_onnx",
    equation: str = "bqc,bchw->bqhw",
    asked_for: bool = False,
) -> Any:
    """As Mask2Former: one map of features, changing queries, masks in other sizes; ``asked_for``: whole ones, too."""
    features = opset.parameter([1, CHANNELS, SIDE, SIDE], np.float32)
    queries = opset.parameter([1, QUERIES, CHANNELS], np.float32)
    known = {size: opset.constant(np.array(size)) for size in sizes}
    axes = opset.constant(np.array([2, 3]))
    outputs, value = [], queries
    for size in sizes:
        masks = opset.einsum([value, features], equation)
        shrunk = opset.interpolate(masks, known[size], mode, axes=axes, **TORCH)
        outputs += [opset.sigmoid(shrunk), *([opset.relu(masks)] if asked_for else [])]
        value = opset.tanh(value)
    outputs.append(opset.einsum([value, features], equation))
    return openvino.Model(outputs, [features, queries], "decoder")


def answers(graph: Any) -> list[NDArray[Any]]:
    chance = np.random.default_rng(3)
    given = [chance.standard_normal(tuple(port.shape)).astype(np.float32) for port in graph.inputs]
    found = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(given)
    return [np.array(found[index]) for index in range(len(graph.outputs))]


def kinds(graph: Any) -> Counter[str]:
    return Counter(node.get_type_name() for node in graph.get_ops())


def test_masks_are_multiplied_small_and_features_shrunk_once_a_size() -> None:
    graph = between_layers()
    expected = answers(graph)
    assert shrunk_first(graph) == 3
    assert kinds(graph)["Interpolate"] == 2
    shapes = sorted(tuple(node.output(0).shape) for node in graph.get_ops() if node.get_type_name() == "Einsum")
    assert shapes == [(1, QUERIES, 4, 4), (1, QUERIES, 4, 4), (1, QUERIES, 8, 6), (1, QUERIES, SIDE, SIDE)]
    for mine, theirs in zip(answers(graph), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_masks_of_pictures_of_any_size_stay_as_they_are() -> None:
    graph = between_layers()
    features, queries = graph.inputs
    graph.reshape({features: [1, CHANNELS, -1, -1], queries: [1, QUERIES, CHANNELS]})
    before = kinds(graph)
    assert shrunk_first(graph) == 0
    assert kinds(graph) == before


@pytest.mark.parametrize(
    "graph",
    [
        between_layers(sizes=((24, 24),)),
        between_layers(sizes=((4, 24),)),
        between_layers(mode="nearest"),
        between_layers(asked_for=True),
        between_layers(sizes=((4, 4),), equation="bqc,bcwh->bqhw"),
    ],
    ids=["larger", "one side larger", "not linear", "wanted whole, too", "another product"],
)
def test_other_masks_stay_as_they_are(graph: Any) -> None:
    before, expected = kinds(graph), answers(graph)
    assert shrunk_first(graph) == 0
    assert kinds(graph) == before
    for mine, theirs in zip(answers(graph), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
