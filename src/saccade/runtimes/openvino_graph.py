"""A graph as OpenVINO reads it, and what is changed in it before it is compiled."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from saccade.card import Card, Pixels
from saccade.errors import RunFailed, SetupError, UnsupportedModel
from saccade.runtimes.session import filled_up, suited


@cache
def core() -> Any:
    if not os.access(os.curdir, os.X_OK):
        # Where this user may not look, as in root's home under sudo, it ends the process over a compiled graph.
        os.chdir(os.sep)
    return library().Core()


@cache
def library() -> ModuleType:
    """The library without its converter tools, which would take half of the time of the import."""
    modules = cast(dict[str, ModuleType | None], sys.modules)
    tools = "openvino.tools"
    without = tools not in modules
    if without:
        modules[tools] = None
    try:
        module = import_module("openvino")
        import_module("openvino.preprocess")
        return module
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # its extension makes an error of every exception
            raise error.__cause__ from None
        raise SetupError(
            f"OpenVINO, without which saccade runs no model, cannot be imported: {error}. Install it anew with: "
            "pip install --force-reinstall openvino"
        ) from None
    finally:
        if without:
            del modules[tools]


class Input:
    """What one input of the graph takes."""

    def __init__(self, node: Any, index: int) -> None:
        self.index = index
        self.names: set[str] = set(node.get_names()) | {node.get_node().get_friendly_name()}
        self.label = str(node.get_any_name()) if node.get_names() else str(node.get_node().get_friendly_name())
        self.shape = node.partial_shape
        self.type: np.dtype[Any] = np.dtype(node.element_type.to_dtype())
        axes = [] if self.shape.rank.is_dynamic else list(self.shape)
        self.sizes = [None if axis.is_dynamic else int(axis.get_length()) for axis in axes]
        """Of its axes, None where one is free."""

    def fitted(self, tensor: NDArray[Any], model: str) -> NDArray[Any]:
        """The tensor as the graph wants it; copied only if it must be."""
        tensor = filled_up(tensor, self.sizes)
        if not self._takes(tensor.shape):
            raise RunFailed(
                f"The model '{model}' takes {self.shape} at its input '{self.label}', and was given {tensor.shape}."
            )
        # OpenVINO shares memory only with arrays that may be written, which pictures out of Pillow may not.
        return np.require(tensor, self.type, ["C", "W"])

    def _takes(self, shape: tuple[int, ...]) -> bool:
        if self.shape.rank.is_dynamic:
            return True
        same = zip(self.shape, shape, strict=False)
        return len(self.shape) == len(shape) and all(axis.is_dynamic or axis.get_length() == n for axis, n in same)


def image_input(inputs: Sequence[Input]) -> Input | None:
    """The only input, or the only one with four axes."""
    if len(inputs) == 1:
        return inputs[0]
    pictures = [given for given in inputs if given.shape.rank.is_static and len(given.shape) == 4]
    return pictures[0] if len(pictures) == 1 else None


def with_plain_slices(graph: Any) -> Any:
    """The graph, whose Slices that GatherElements reads have become StridedSlices; changed in place.

    OpenVINO 2026.4 joins the Slices of one transposed tensor wrongly where GatherElements reads them, and cannot
    compile what comes out: the YOLO26 exports without suppression for segments, poses and oriented boxes.
    """
    gathers = [node for node in graph.get_ops() if node.get_type_name() == "GatherElements"]
    if not any(node.input_value(0).get_node().get_type_name() == "Slice" for node in gathers):
        return graph
    fold(graph)  # the arguments of exported slices are often small computations
    for gather in gathers:
        piece = gather.input_value(0).get_node()
        if piece.get_type_name() == "Slice" and piece.input_value(0).get_partial_shape().rank.is_static:
            arguments = [value.get_node() for value in piece.input_values()[1:]]
            if len(arguments) == 4 and all(node.get_type_name() == "Constant" for node in arguments):
                piece.output(0).replace(_strided(piece.input_value(0), *(node.get_data() for node in arguments)))
    return graph


def fold(graph: Any) -> None:
    """Computes in place what does not depend on the inputs."""
    passes = import_module("openvino.passes")
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(graph)


def _strided(source: Any, starts: Any, stops: Any, steps: Any, axes: Any) -> Any:
    """The output of the StridedSlice that cuts as a Slice with these arguments does."""
    rank = source.get_partial_shape().rank.get_length()
    begin, end, stride, free = [0] * rank, [0] * rank, [1] * rank, [1] * rank
    for start, stop, step, axis in zip(*(part.ravel().tolist() for part in (starts, stops, steps, axes)), strict=True):
        begin[axis], end[axis], stride[axis], free[axis] = start, stop, step, 0
    operations = import_module("openvino.opset13")
    return operations.strided_slice(source, begin, end, stride, free, free).output(0)


def with_split_convolutions(graph: Any) -> Any:
    """The graph, in which a convolution whose channels are split afterwards has become one for each part.

    Every channel is computed as before; what goes is a copy of all of them: of a yolov8n in bfloat16 it took 1 to 5 %
    of the time, depending on how much of the memory's speed other work leaves. Changed in place.
    """
    for split in graph.get_ops():
        if split.get_type_name() in ("Split", "VariadicSplit") and _number(split.input_value(1)) == 1:
            _split_up(split)
    return graph


def _split_up(split: Any) -> None:
    operations = import_module("openvino.opset13")
    activated = split.input_value(0)
    if len(activated.get_target_inputs()) > 1:
        return
    biased, _, activate = before_activation(activated)
    if biased is None or biased.get_node().get_type_name() != "Add":
        return
    convolution, added = biased.get_node().input_value(0).get_node(), biased.get_node().input_value(1)
    readers = [reader.get_node().get_type_name() for reader in convolution.output(0).get_target_inputs()]
    if convolution.get_type_name() != "Convolution" or set(readers) - {"Add", "ShapeOf"} or readers.count("Add") > 1:
        return
    weights = data_of(convolution.input_value(1))
    bias = None if weights is None else bias_of(added, weights)
    sizes = [part.get_partial_shape()[1] for part in split.outputs()]
    if weights is None or bias is None or any(size.is_dynamic for size in sizes):
        return
    attributes = convolution.get_attributes()
    settings = {key: attributes[key] for key in ("strides", "pads_begin", "pads_end", "dilations", "auto_pad")}
    start = 0
    for part, size in zip(split.outputs(), sizes, strict=True):
        stop = start + size.get_length()
        own = operations.constant(np.ascontiguousarray(weights[start:stop]))
        node = operations.convolution(convolution.input_value(0), own, **settings)
        node = operations.add(node, operations.constant(bias[:, start:stop].copy()))
        made = activate(node)
        part.replace(made.output(0))
        name_new(made, convolution.input_value(0), f"{split.get_friendly_name()}/{start}")
        start = stop


def name_new(made: Any, source: Any, name: str) -> None:
    """Names what was made between an output and a node: where compiled graphs are kept, they are found by names, too,
    and those that OpenVINO would give count what this process has made before."""
    waiting, known = [made], {source.get_node().get_friendly_name()}
    while waiting:
        node = waiting.pop()
        if node.get_friendly_name() not in known:
            known.add(f"{name}/{len(known)}")
            node.set_friendly_name(f"{name}/{len(known) - 1}")
            waiting += [value.get_node() for value in node.input_values()]


def before_activation(activated: Any) -> tuple[Any | None, Literal["silu", "relu"] | None, Any]:
    """What goes into an activation, which it is, and how to make one anew; None if it is none that is known."""
    operations = import_module("openvino.opset13")
    node = activated.get_node()
    match node.get_type_name():
        case "Swish" if node.get_input_size() == 1:
            return node.input_value(0), "silu", operations.swish
        case "Relu":
            return node.input_value(0), "relu", operations.relu
        case "Multiply":
            for gate, value in (node.input_values(), reversed(node.input_values())):
                sigmoid = gate.get_node()
                if sigmoid.get_type_name() == "Sigmoid" and sigmoid.input_value(0) == value:
                    return value, "silu", lambda made: operations.multiply(made, operations.sigmoid(made))
    return None, None, None


def data_of(value: Any) -> NDArray[Any] | None:
    """The numbers of a constant, also of one that is only given another shape; None if it is something else."""
    node = value.get_node()
    if node.get_type_name() == "Reshape":
        node = node.input_value(0).get_node()
    return cast("NDArray[Any]", node.get_data()) if node.get_type_name() == "Constant" else None


def bias_of(added: Any, weights: NDArray[Any]) -> NDArray[Any] | None:
    """What is added to the channels of a convolution with these weights, (1, channels, 1, …); None if it is something
    else: what is added along another axis is no bias, even if it is as long."""
    data = data_of(added)
    by_channel = library().PartialShape([1, len(weights), *[1] * (weights.ndim - 2)])
    if data is None or added.get_partial_shape() not in (by_channel, by_channel[1:]):
        return None
    return data.reshape(by_channel.to_shape())


def settings_of(streams: int, threads: int, exact: bool) -> dict[str, Any]:
    """How a graph is compiled; ``exact``: in f32, even where the processor has something faster."""
    return {
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": str(threads),
        # With pinning, two compiled graphs sit on the same cores: 42 instead of 68 images/s on two cores.
        "ENABLE_CPU_PINNING": "NO",
        **({"INFERENCE_PRECISION_HINT": "f32"} if exact else {}),
    }


def exactly(results: Sequence[Any], given: Sequence[tuple[Any, NDArray[Any]]]) -> list[NDArray[Any]]:
    """What these results of a graph come to in f32, with each of these parameters and its numbers."""
    model = library().Model(list(results), [parameter for parameter, _ in given], "trial")
    answers = core().compile_model(model, "CPU", settings_of(1, 1, exact=True))([numbers for _, numbers in given])
    return [answers[index] for index in range(len(results))]


def _number(value: Any) -> int | None:
    data = data_of(value)
    return int(data.reshape(-1)[0]) if data is not None and data.size == 1 else None


def put_arithmetic_into(graph: Any, card: Card, pixels: Mapping[str, Pixels]) -> None:
    """Lets the named inputs take uint8 pictures (n, height, width, 3) in RGB; changes the graph in place.

    OpenVINO's own PrePostProcessor would turn the bytes round first, and compute then: what the processor's
    convolutions want is the picture's own order, so that they turned the numbers back (2 to 3 % of a yolov8n).
    """
    inputs = [Input(node, index) for index, node in enumerate(graph.inputs)]
    for name, wanted in pixels.items():
        given = next((known for known in inputs if name in known.names), None) if name else image_input(inputs)
        if given is None:
            raise UnsupportedModel(f"The graph of '{card.name}' has no image input{f' {name!r}' if name else ''}.")
        picture = suited(wanted, given.sizes, given.type.name)
        parameter = graph.inputs[given.index].get_node()
        shape = _shape_of_pictures(given.shape, picture.layout)
        if shape is None:
            raise UnsupportedModel(
                f"The image input of '{card.name}' is not a picture of three channels, as its family expects."
            )
        pictures = _pictures(parameter, shape)
        numbers = _numbers_of(pictures, picture, parameter.get_element_type())
        for reader in parameter.output(0).get_target_inputs():
            reader.replace_source_output(numbers)
        graph.replace_parameter(given.index, pictures)
    graph.validate_nodes_and_infer_types()


def _shape_of_pictures(shape: Any, layout: str) -> Any | None:
    """The shape (n, height, width, 3) for an input of this shape; None if it takes no pictures."""
    partial, dimension = library().PartialShape, library().Dimension
    axes = [dimension()] * 4 if shape.rank.is_dynamic else list(shape)
    if len(axes) != 4:
        return None
    n, height, width, channels = axes if layout == "NHWC" else (axes[0], axes[2], axes[3], axes[1])
    return partial([n, height, width, dimension(3)]) if channels.compatible(dimension(3)) else None


def _pictures(parameter: Any, shape: Any) -> Any:
    """An input for bytes with the names of another one."""
    made = import_module("openvino.opset13").parameter(shape, library().Type.u8)
    made.set_friendly_name(parameter.get_friendly_name())
    names = parameter.output(0).get_names()
    parameter.output(0).set_names(set())
    made.output(0).set_names(names)
    return made


def _numbers_of(pictures: Any, picture: Pixels, kind: Any) -> Any:
    """The output with what the graph computes with: ``(x * scale - mean) / std``, in its order, layout and type."""
    operations = import_module("openvino.opset13")
    node = pictures
    if picture.order == "BGR":
        node = operations.gather(node, np.array([2, 1, 0]), np.array(3))
    mean = np.array([value / picture.scale for value in picture.mean], np.float32)
    std = np.array([value / picture.scale for value in picture.std], np.float32)
    # OpenVINO works along the last axis: with the channels there, three numbers at a time.
    in_rows = not mean.any() and len(set(std.tolist())) == 1 and pictures.get_partial_shape().rank.is_static
    if in_rows:
        node, std = operations.reshape(node, np.array([0, 0, -1]), special_zero=True), std[:1]
    if mean.any() or (std != 1).any():
        node = operations.convert(node, "f32")
    if mean.any():
        node = operations.subtract(node, mean)
    if (std != 1).any():
        node = operations.divide(node, std)
    if node.get_output_element_type(0) != kind:
        node = operations.convert(node, kind)
    if in_rows:
        node = operations.reshape(node, np.array([0, 0, -1, 3]), special_zero=True)
    if picture.layout == "NCHW":
        node = operations.transpose(node, np.array([0, 3, 1, 2]))
    name_new(node, pictures.output(0), f"{pictures.get_friendly_name()}/numbers")
    return node.output(0)
