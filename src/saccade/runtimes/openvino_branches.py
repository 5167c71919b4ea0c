"""Branches of heads in OpenVINO's graphs: what they compute, and how to compute them at all places after all."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import RunFailed
from saccade.ops.branches import Activation, Branch, Layer
from saccade.results import FloatArray
from saccade.runtimes.openvino_graph import before_activation, bias_of, core, data_of, exactly, library, settings_of

RELATIVE, ABSOLUTE = 1e-4, 1e-3
"""How far the numbers of a branch may lie apart from those of the graph."""

PLACES = 40
"""At so many places, beside the corners, they are compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """``features``: the output that the first convolution reads at its input ``entry``; ``layers``: from there on."""

    features: Any
    entry: Any
    layers: tuple[Layer, ...]

    @property
    def label(self) -> str:
        """The features' name: that of the node that gives them, and which of its outputs they are."""
        return f"{self.features.get_node().get_friendly_name()}:{self.features.get_index()}"


def chain_to(end: Any) -> Chain | None:
    """The longest chain of layers that ends with this node, a convolution with its bias; None if it is none of them, or
    looks at nothing around a place, so that little is won."""
    layers: list[Layer] = []
    activation: Activation = ""
    node, begin = end, None
    while (convolution := _convolution_of(node)) is not None:
        layer = _layer(convolution, node, activation)
        if layer is None:
            break
        layers.append(layer)
        begin = convolution
        before = convolution.input_value(0)
        biased, kind, _ = before_activation(before)
        # What others read, too, has to be computed everywhere.
        if biased is None or kind is None or _readers(before) > 1 or _readers(biased) > (2 if kind == "silu" else 1):
            break
        node, activation = biased.get_node(), kind
    if begin is None or all(layer.side == 1 for layer in layers):
        return None
    return Chain(begin.input_value(0), begin.input(0), tuple(reversed(layers)))


def _readers(output: Any) -> int:
    return sum(reader.get_node().get_type_name() != "ShapeOf" for reader in output.get_target_inputs())


def _convolution_of(biased: Any) -> Any | None:
    if biased.get_type_name() == "Add":
        for value in biased.input_values():
            if value.get_node().get_type_name() == "Convolution" and _readers(value) == 1:
                return value.get_node()
    return None


def _layer(convolution: Any, biased: Any, activation: Activation) -> Layer | None:
    weights = data_of(convolution.input_value(1))
    if weights is None or weights.ndim != 4 or weights.shape[2] != weights.shape[3]:
        return None
    bias = next((found for value in biased.input_values() if (found := bias_of(value, weights)) is not None), None)
    side, attributes = weights.shape[2], convolution.get_attributes()
    pads = [list(attributes[key]) for key in ("pads_begin", "pads_end")]
    same = str(attributes["auto_pad"]) in ("same_upper", "same_lower") or pads == [[side // 2] * 2] * 2
    steps = [list(attributes[key]) for key in ("strides", "dilations")]
    if bias is None or side % 2 == 0 or not same or steps != [[1, 1]] * 2 or weights.dtype != np.float32:
        return None
    matrix = weights.transpose(2, 3, 1, 0).reshape(-1, len(weights))
    return Layer(np.ascontiguousarray(matrix), bias.reshape(-1).astype(np.float32), side, activation)


def true_to(chains: Sequence[Chain], ends: Sequence[Any]) -> list[bool]:
    """Whether each chain, computed at single places, gives the numbers of the node that it ends with; the graph, which
    must have fixed sizes, is not used again."""
    numbers = np.random.default_rng(0)
    operations = import_module("openvino.opset13")
    given: dict[str, tuple[Any, FloatArray]] = {}
    for chain in chains:
        if chain.label not in given:
            shape = chain.features.get_shape()
            parameter = operations.parameter(shape, library().Type.f32)
            given[chain.label] = parameter, numbers.normal(size=shape).astype(np.float32)
        chain.entry.replace_source_output(given[chain.label][0].output(0))
    answers = exactly([operations.result(end) for end in ends], list(given.values()))
    told = []
    for chain, answer in zip(chains, answers, strict=True):
        expected = answer[:1].transpose(0, 2, 3, 1)
        count = expected.shape[1] * expected.shape[2]
        corners = [0, expected.shape[2] - 1, count - expected.shape[2], count - 1]
        places = np.unique(np.concatenate((corners, numbers.integers(0, count, PLACES))))
        features = np.ascontiguousarray(given[chain.label][1][:1].transpose(0, 2, 3, 1))
        if features.shape[1:3] != expected.shape[1:3]:
            told.append(False)
            continue
        found = Branch(chain.layers).at(features, places)
        told.append(bool(np.allclose(found, expected.reshape(count, -1)[places], RELATIVE, ABSOLUTE)))
    return told


class Everywhere:
    """A branch's numbers at all places, by a graph that is compiled when it is first asked for. Safe from many threads,
    one at a time: a call has all of them."""

    def __init__(self, layers: Sequence[Layer], threads: int, half: bool) -> None:
        """``half``: features are bits of bfloat16, and it is computed in that."""
        self._layers = layers
        self._threads = threads
        self._half = half
        self._lock = threading.Lock()
        self._graph: Any = None

    def __call__(self, features: NDArray[Any]) -> FloatArray:
        """(1, height, width, channels before) → (height · width, channels). Raises RunFailed."""
        given = np.require(np.asarray(features), requirements=["C", "W"])
        made = library()
        kind = made.Type.bf16 if self._half else made.Type.f32
        try:
            with self._lock:
                if self._graph is None:
                    self._graph = self._compiled(given.shape[3], kind)
                # One that was kept would keep the features, too.
                request = self._graph.create_infer_request()
                request.set_input_tensor(made.Tensor(given, given.shape, kind))
                request.start_async()
                request.wait()
                numbers: FloatArray = np.array(request.get_output_tensor(0).data)
        except RuntimeError:
            raise RunFailed(f"A head of the model failed on features of shape {given.shape}.") from None
        return numbers.reshape(-1, numbers.shape[3])

    def _compiled(self, channels: int, kind: Any) -> Any:
        operations, made = import_module("openvino.opset13"), library()
        parameter = operations.parameter(made.PartialShape([1, -1, -1, channels]), kind)
        node = operations.convert(parameter, "f32") if self._half else parameter
        node = operations.transpose(node, np.array([0, 3, 1, 2]))
        for layer in self._layers:
            weights = layer.weights.reshape(layer.side, layer.side, -1, len(layer.bias)).transpose(3, 2, 0, 1)
            pads = [layer.side // 2] * 2
            node = operations.convolution(
                node, operations.constant(np.ascontiguousarray(weights)), [1, 1], pads, pads, [1, 1]
            )
            node = operations.add(node, operations.constant(layer.bias.reshape(1, -1, 1, 1)))
            if layer.activation:
                node = operations.swish(node) if layer.activation == "silu" else operations.relu(node)
        result = operations.result(operations.transpose(node, np.array([0, 2, 3, 1])))
        settings = settings_of(1, self._threads, exact=not self._half)
        return core().compile_model(made.Model([result], [parameter], "branch"), "CPU", settings)
