"""Transformers whose number of tokens does not suit the processor, computed with some tokens more.

A ViT for 224 pixels has 197 tokens: 196 places and one for the class. In bfloat16 several threads share the rows of a
matrix out in equal steps, if there is a good one that divides their number, and 197 is a prime (two AVX-512 cores
without AMX, four products of 768 channels with 3072 and back: 11.1 ms for 197, 199, 201 and 202 rows, 10.2 for 196,
198, 200, 204 and 208; eight with 768: 2.9 and 2.4). With one thread, and in f32, that is not so. The rows that are
added are zeros at first and whatever comes of them later. Nothing looks at them: before keys and values are read, and
before anything else that is not known to keep rows apart, they are cut off again, so that every other number is
computed as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from itertools import count
from typing import Any

import numpy as np

from saccade.runtimes.openvino_graph import fold, name_new

STEPS = range(24, 65)
"""So many rows are taken at once, where that divides their number."""

MULTIPLE = 4
FEWEST, MOST = 192, 320
"""Between so many rows it pays: fewer are taken well enough, and of more the last step is a small part."""

ENOUGH = 8
"""Products with weights that must become faster; for fewer it isn't worth it."""

SHAPING = ("Reshape", "Squeeze", "Unsqueeze")
ALONE = {"Abs", "Clamp", "Convert", "Elu", "Erf", "Exp", "Gelu", "HSwish", "Negative", "Relu", "Sigmoid", "SoftPlus"}
ALONE |= {"Sqrt", "Swish", "Tanh"}
"""What treats every number by itself."""
PAIRED = ("Add", "Subtract", "Multiply", "Divide", "Power", "Maximum", "Minimum", "SquaredDifference")
TOGETHER = ("MVN", "ReduceMean", "ReduceSum", "Softmax")
"""What treats the numbers along some axes together."""
ATTENTION = "ScaledDotProductAttention"


def with_full_steps(graph: Any, fewest: int = FEWEST, most: int = MOST, enough: int = ENOUGH) -> Any:
    """The same ``openvino.Model``, or where that pays another one with more tokens inside."""
    if any(port.get_partial_shape().is_dynamic for port in graph.inputs):
        return graph
    if not any(_is_slow(node, fewest, most) for node in graph.get_ops()):
        return graph
    fuller = graph.clone()
    if any(node.get_type_name() == "ShapeOf" for node in fuller.get_ops()):
        fold(fuller)  # a traced graph computes of its own shapes what is fixed
    if fuller.is_dynamic():
        return graph
    changed, tried = False, set[str]()
    while plan := next((plan for plan in _plans(fuller, tried, fewest, most) if len(plan.products) >= enough), None):
        plan.write()
        fuller.validate_nodes_and_infer_types()
        changed = True
    return fuller if changed else graph


def _plans(graph: Any, tried: set[str], fewest: int, most: int) -> Iterator[_Plan]:
    """One for each chain of products whose number of rows does not suit, and that was not tried yet."""
    for product in graph.get_ordered_ops():
        if product.get_name() not in tried and _is_slow(product, fewest, most):
            plan = _Plan(graph, *_begin(product))
            tried |= {product.get_name(), *plan.products}
            yield plan


def _is_slow(node: Any, fewest: int, most: int) -> bool:
    """Whether it is a product with weights whose number of rows does not suit."""
    if node.get_type_name() != "MatMul" or not _is_fixed(node.input_value(1)):
        return False
    source = node.input_value(0)
    if source.get_element_type().get_type_name() not in ("f32", "f16") or source.get_partial_shape().is_dynamic:
        return False
    shape = [1, *source.get_shape()]
    rows = shape[-2]
    suits = rows <= fewest or rows >= most or _missing(rows) == 0
    return not suits and all(size == 1 for size in shape[:-2]) and not node.get_attributes()["transpose_a"]


def _begin(product: Any) -> tuple[Any, int]:
    """The output with which the rows of a product come into being, and which of its axes they are."""
    value = product.input_value(0)
    axis = len(value.get_shape()) - 2
    while True:
        node = value.get_node()
        kind = node.get_type_name()
        variable = [one for one in node.input_values() if not _is_fixed(one)]
        plain = kind in ALONE or kind in PAIRED or (kind in TOGETHER and axis not in _together(node))
        if not plain or len(variable) != 1 or list(variable[0].get_shape()) != list(value.get_shape()):
            return value, axis
        value = variable[0]


class _Plan:
    """What changes if an output has more rows: which others have, too, and where they are cut off again."""

    def __init__(self, graph: Any, source: Any, axis: int) -> None:
        self._source = source
        self._rows = source.get_shape()[axis]
        self._more = _missing(self._rows)
        self._axes = {_key(source): axis}
        """Of all outputs that have more rows, which axis these are."""
        self._cuts: list[tuple[Any, int]] = []
        """Inputs that take no more rows than before."""
        self._constants: list[tuple[Any, int, Any]] = []
        """Inputs that need other constants, and these."""
        self.products: list[str] = []
        """The names of the products with weights that have more rows."""
        for node in graph.get_ordered_ops():
            self._visit(node)

    def write(self) -> None:
        """Changes the graph."""
        opset = import_module("openvino.opset13")
        name = self._source.get_node().get_friendly_name()
        axis = self._axes[_key(self._source)]
        shape = list(self._source.get_shape())
        shape[axis] = self._more
        zeros = opset.constant(np.zeros(shape, self._source.get_element_type().to_dtype()))
        readers = list(self._source.get_target_inputs())
        fuller = opset.concat([self._source, zeros], axis)
        name_new(fuller, self._source, f"{name}/fuller")
        for reader in readers:
            reader.replace_source_output(fuller.output(0))
        self._axes[_key(fuller.output(0))] = axis
        for node, index, numbers in self._constants:
            constant = opset.constant(numbers)
            constant.set_friendly_name(f"{node.get_friendly_name()}/{index}/fuller")
            node.input(index).replace_source_output(constant.output(0))
        cut: dict[str, Any] = {}
        for node, index in self._cuts:
            value = node.input_value(index)
            key = _key(value)
            if key not in cut:
                cut[key] = opset.variadic_split(value, np.int64(self._axes[key]), np.array([self._rows, -1]))
                name_new(cut[key], value, f"{value.get_node().get_friendly_name()}/{value.get_index()}/cut")
            node.input(index).replace_source_output(cut[key].output(0))

    def _visit(self, node: Any) -> None:
        axes = [self._axes.get(_key(value)) for value in node.input_values()]
        for index, axis in enumerate(axes):
            if axis is not None and _is_for_attention(node.input_value(index)):
                self._cut(node, index, axes)
        if all(axis is None for axis in axes):
            return
        after = self._after(node, axes)
        for index, axis in enumerate(axes):
            if axis is not None and after is None:
                self._cut(node, index, axes)
        if after is not None:
            self._axes |= {_key(output): after for output in node.outputs()}

    def _cut(self, node: Any, index: int, axes: list[int | None]) -> None:
        self._cuts.append((node, index))
        axes[index] = None

    def _after(self, node: Any, axes: list[int | None]) -> int | None:
        """The axis of the rows in what a node makes; None: it must not have more."""
        kind, axis = node.get_type_name(), axes[0]
        if kind in ALONE:
            return axis
        if kind in PAIRED:
            return self._paired(node, axes)
        if axis is None or any(other is not None for other in axes[1:]):
            return None
        shape = list(node.input_value(0).get_shape())
        if kind in TOGETHER and axis not in _together(node):
            return axis if len(node.output(0).get_shape()) == len(shape) else None
        if kind == "MatMul":
            return self._product(node, axis)
        if kind == ATTENTION:
            return axis if axis == len(shape) - 2 and self._mask_fits(node, axis) else None
        if kind == "Transpose" and _is_constant(node.input_value(1)):
            return int(node.input_value(1).get_node().get_data().tolist().index(axis))
        if kind in SHAPING:
            return self._shaped(node, axis)
        if kind == "Gather":
            return self._picked(node, axis)
        if kind in ("Split", "VariadicSplit") and _is_constant(node.input_value(1)):
            return axis if int(node.input_value(1).get_node().get_data()) % len(shape) != axis else None
        return None

    def _paired(self, node: Any, axes: list[int | None]) -> int | None:
        """Of two numbers each: both have the rows, or one is the same for all of them, or there are constants."""
        rank = len(node.output(0).get_shape())
        found = {axis + rank - len(node.input_value(i).get_shape()) for i, axis in enumerate(axes) if axis is not None}
        if len(found) > 1:
            return None
        after = found.pop()
        beside = (index for index, axis in enumerate(axes) if axis is None)
        return after if all(self._beside(node, index, after - rank) for index in beside) else None

    def _beside(self, node: Any, index: int, from_end: int) -> bool:
        """Whether an input fits rows that are more on an axis, counted from the end; a constant is made to."""
        value = node.input_value(index)
        shape = list(value.get_shape())
        if len(shape) < -from_end or shape[from_end] == 1:
            return True
        if not _is_fixed(value):
            return False
        constant = value.get_node() if _is_constant(value) else value.get_node().input_value(0).get_node()
        numbers = constant.get_data().astype(value.get_element_type().to_dtype())
        wider = [(0, self._more if number == numbers.ndim + from_end else 0) for number in range(numbers.ndim)]
        self._constants.append((node, index, np.pad(numbers, wider, "edge")))
        return True

    def _product(self, node: Any, axis: int) -> int | None:
        if axis != len(node.input_value(0).get_shape()) - 2 or node.get_attributes()["transpose_a"]:
            return None
        if _is_fixed(node.input_value(1)):
            self.products.append(node.get_name())
        return len(node.output(0).get_shape()) - 2

    def _mask_fits(self, node: Any, axis: int) -> bool:
        if node.get_input_size() < 4:
            return not node.get_attributes()["causal"]
        return self._beside(node, 3, axis - len(node.input_value(0).get_shape()))

    def _picked(self, node: Any, axis: int) -> int | None:
        """Of parts of another axis, one or some."""
        places, picked = node.input_value(1), node.input_value(2)
        if not (_is_constant(places) and _is_constant(picked)) or node.get_attributes()["batch_dims"]:
            return None
        along = int(picked.get_node().get_data().item()) % len(node.input_value(0).get_shape())
        if along == axis:
            return None
        return axis if along > axis else axis - 1 + len(places.get_shape())

    def _shaped(self, node: Any, axis: int) -> int | None:
        """Rows stay rows where what lies outside of them stays the same."""
        before, after = list(node.input_value(0).get_shape()), list(node.output(0).get_shape())
        outside = np.prod(before[:axis], dtype=int)
        for number, size in enumerate(after):
            if size == self._rows and np.prod(after[:number], dtype=int) == outside:
                after[number] += self._more
                if node.get_type_name() == "Reshape":
                    self._constants.append((node, 1, np.array(after)))
                return number
        return None


def _missing(rows: int) -> int:
    """How many rows more divide into good steps."""
    if any(rows % step == 0 for step in STEPS):
        return 0
    return next(more for more in count(-rows % MULTIPLE, MULTIPLE) if any((rows + more) % step == 0 for step in STEPS))


def _key(output: Any) -> str:
    return f"{output.get_node().get_name()}:{output.get_index()}"


def _is_constant(value: Any) -> bool:
    return bool(value.get_node().get_type_name() == "Constant")


def _is_fixed(value: Any) -> bool:
    """Whether it is a constant, also one that is kept in another type, as compressed weights are; but not in bfloat16,
    which numpy does not know."""
    node = value.get_node()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant" and node.get_element_type().get_type_name() != "bf16")


def _together(node: Any) -> set[int]:
    """The axes along which a node treats numbers together; all, if they are not known."""
    rank = len(node.input_value(0).get_shape())
    if node.get_type_name() == "Softmax":
        return {node.get_attributes()["axis"] % rank}
    axes = node.input_value(1)
    return {int(axis) % rank for axis in axes.get_node().get_data().ravel()} if _is_constant(axes) else set(range(rank))


def _is_for_attention(value: Any) -> bool:
    """Whether an output is read by nothing but an attention, as its keys or its values, perhaps turned before."""
    readers = list(value.get_target_inputs())
    if len(readers) != 1:
        return False
    node, index = readers[0].get_node(), readers[0].get_index()
    kind = node.get_type_name()
    if kind in (*SHAPING, "Transpose"):
        return index == 0 and _is_for_attention(node.output(0))
    return (kind == ATTENTION and index in (1, 2)) or (kind == "MatMul" and index == 1)
