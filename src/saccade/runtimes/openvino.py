"""OpenVINO, the runtime for processors: ONNX, Paddle, TensorFlow Lite and OpenVINO's own files.

The pictures' arithmetic (bytes → normalised floats, channel order, layout) becomes part of the graph, so that uint8
pixels go in. Every graph is compiled twice where that pays: once with one stream per thread for calls side by side,
once with all threads for a call that is alone. A graph of free shape is also compiled for the few shapes that come
often, because a compile of a fixed shape is about a tenth faster; until then, and for rare shapes, the free one
answers. Compiles that were not needed for a while keep what is costly to make and give back the rest of their memory.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from saccade.card import Card, Pixels
from saccade.errors import CorruptFiles, MissingExtra, RunFailed, UnsupportedModel
from saccade.runtimes.compiled_files import alone, look_through, room, seal
from saccade.runtimes.session import Compute, Session, cut_off, filled_up, suited

Shapes: TypeAlias = tuple[tuple[int, ...], ...]

SIGHT = 64
"""Of how many last calls the shapes are remembered."""

COMMON = 3
"""A shape seen this often within sight is compiled on its own."""

SETTLE_S = 0.3
SETTLE_FACTOR = 3
"""When a graph was opened in haste, its first answers have so many seconds, or so many times what opening it took,
before further compiles compete with them."""

SHAPES_BYTES = 128 << 20
"""Compiles for single shapes may hold so many bytes of weights in all, for compiles do not share them. A tenth is won
on small graphs; a DETR of 166 MB gained two hundredths for 690 MB a shape."""

DONTNEED = 4
"""Linux's MADV_DONTNEED."""

_compiling = threading.Lock()


def RUNTIME(card: Card, pixels: Mapping[str, Pixels], compute: Compute) -> Session:
    """See :class:`saccade.runtimes.session.Runtime`."""
    graph = _read(card)
    _put_arithmetic_into(graph, card, pixels)
    weights = sum(Path(file).stat().st_size for file in card.files if Path(file).is_file())
    shapes = min(compute.shapes, SHAPES_BYTES // max(1, weights))
    kept = None if compute.cache_dir is None else str(room(compute.cache_dir, card, "openvino"))
    return OpenVinoSession(graph, card.name, msgspec.structs.replace(compute, shapes=shapes, cache_dir=kept))


def FURNISH() -> None:
    """Loads the library and its part for processors; no thread is started."""
    _core().get_property("CPU", "FULL_DEVICE_NAME")


class OpenVinoSession:
    """A compiled graph; see :class:`saccade.runtimes.session.Session`."""

    def __init__(self, graph: Any, name: str, compute: Compute) -> None:
        self._graph = graph
        self._name = name
        self._compute = compute
        self._inputs = [_Input(node, index) for index, node in enumerate(graph.inputs)]
        self._by_name = {name: given for given in self._inputs for name in given.names}
        self._image = _image_input(self._inputs)
        self._lock = threading.Lock()
        self._alone = threading.Lock()
        self._active = 0
        self._calls = 0
        self._free_shape = graph.is_dynamic()
        self.batchable = all(given.shape.rank.is_static and given.shape[0].is_dynamic for given in self._inputs)
        begun = time.monotonic()
        lanes = self._compile(graph, compute.hasty)
        self._settle_s = max(SETTLE_S, SETTLE_FACTOR * (time.monotonic() - begun)) if compute.hasty else 0.0
        self._lanes: _Lanes | None = lanes
        self._fixed: OrderedDict[Shapes, _Lanes] = OrderedDict()
        self._recent: deque[Shapes] = deque(maxlen=SIGHT)
        self._refused: set[Shapes] = set()
        self._pending: set[Shapes] = set()
        self._closing = threading.Event()
        self._builder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compile")
        self._builder.submit(self._settle, lanes)

    @property
    def precision(self) -> str:
        """What the graph is computed in: "bfloat16", "float32", …"""
        lanes = self._lanes
        return str(lanes.many.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()) if lanes else ""

    def run(self, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """See the contract; safe from many threads."""
        feeds = self._feeds(tensors)
        with self._lock:
            self._active += 1
            self._calls += 1
            idle = self._active == 1
            if self._calls % SIGHT == 0 and self._lanes is not None:
                self._builder.submit(self._tidy)
        try:
            lanes = self._lanes_for(tuple(feed.shape for feed in feeds))
            if idle and lanes.lone is not None and self._alone.acquire(blocking=False):
                try:
                    return cut_off(lanes.lone.run(feeds), tensors, feeds)
                finally:
                    self._alone.release()
            return cut_off(lanes.many.run(feeds), tensors, feeds)
        except RuntimeError:
            shapes = ", ".join(str(feed.shape) for feed in feeds)
            raise RunFailed(f"The model '{self._name}' failed on an input of shape {shapes}.") from None
        finally:
            with self._lock:
                self._active -= 1

    def close(self) -> None:
        """Waits for a compile that is under way, then frees all compiled graphs."""
        self._closing.set()
        self._builder.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            self._fixed.clear()
            self._lanes = None
            self._graph = None

    def _feeds(self, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """One contiguous array of the graph's type per input, in the graph's order."""
        feeds: list[NDArray[Any] | None] = [None] * len(self._inputs)
        for name, tensor in tensors.items():
            given = self._by_name.get(name) if name else self._image
            if given is None:
                expected = ", ".join(sorted(self._by_name))
                raise RunFailed(f"The model '{self._name}' has no input '{name or 'image'}'; it takes {expected}.")
            feeds[given.index] = given.fitted(tensor, self._name)
        for feed, given in zip(feeds, self._inputs, strict=True):
            if feed is None:
                raise RunFailed(f"The model '{self._name}' needs an input '{given.label}', which was not given.")
        return cast(list[NDArray[Any]], feeds)

    def _lanes_for(self, shapes: Shapes) -> _Lanes:
        """The compile that fits best now; a shape that has become common gets its own, later, in the background."""
        with self._lock:
            if self._lanes is None:
                raise RunFailed(f"The model '{self._name}' is closed.")
            if not self._free_shape:
                return self._lanes
            self._recent.append(shapes)
            found = self._fixed.get(shapes)
            if found is not None:
                self._fixed.move_to_end(shapes)
                return found
            if self._worth_compiling(shapes):
                self._pending.add(shapes)
                self._builder.submit(self._fix, shapes)
            return self._lanes

    def _worth_compiling(self, shapes: Shapes) -> bool:
        if self._compute.shapes < 1 or shapes in self._pending or shapes in self._refused:
            return False
        seen = Counter(self._recent)
        if seen[shapes] < COMMON:
            return False
        if len(self._fixed) + len(self._pending) < self._compute.shapes:
            return True
        # A clear margin, or two shapes of equal rate would push each other out for ever.
        rarest = min((seen[known] for known in self._fixed), default=0)
        return not self._pending and seen[shapes] > 2 * rarest + COMMON

    def _fix(self, shapes: Shapes) -> None:
        lanes: _Lanes | None = None
        try:
            graph = self._graph.clone()
            graph.reshape({index: list(shape) for index, shape in enumerate(shapes)})
            lanes = self._compile(graph)
        except (RuntimeError, CorruptFiles, UnsupportedModel):
            lanes = None
        with self._lock:
            self._pending.discard(shapes)
            if lanes is None:
                self._refused.add(shapes)
                return
            seen = Counter(self._recent)
            while len(self._fixed) >= self._compute.shapes:
                self._fixed.pop(min(self._fixed, key=lambda known: seen[known]))
            self._fixed[shapes] = lanes
        _put_aside(self._compute)

    def _tidy(self) -> None:
        """Lets compiles rest that were not needed within sight; for the next call each takes some milliseconds more."""
        with self._lock:
            lanes = [*self._fixed.values(), *([self._lanes] if self._lanes is not None else [])]
        for lane in lanes:
            lane.many.tire()
            if lane.lone is not None:
                lane.lone.tire()
        _put_aside(self._compute)

    def _compile(self, graph: Any, hasty: bool = False) -> _Lanes:
        try:
            many = _Compiled(_compiled(graph, self._compute, self._streams), graph.is_dynamic())
            # A graph that is compiled for the first time takes long; then the whole is there when it's done.
            later = hasty and many.compiled.get_property("LOADED_FROM_CACHE")
            return _Lanes(many, self._lone(graph) if self._wants_lone and not later else None)
        except RuntimeError:
            raise UnsupportedModel(
                f"The graph of '{self._name}' can be read, but this version of OpenVINO cannot compile it."
            ) from None

    def _settle(self, lanes: _Lanes) -> None:
        """Compiles what was left out in haste, and puts away what is not needed any more; the shapes that are waiting
        come after it."""
        if self._closing.wait(self._settle_s):
            return
        if lanes.lone is None and self._wants_lone:
            self._compile_late(lanes)
        _put_aside(self._compute)
        if not self._free_shape:
            # Only other shapes would be compiled from it; it holds all weights once more.
            self._graph = None

    def _compile_late(self, lanes: _Lanes) -> None:
        with suppress(RuntimeError):
            lone = self._lone(self._graph)
            # Its first run takes longer than the others; no caller should pay for that.
            shapes = self._recent[-1] if self._recent else [given.shape.get_shape() for given in self._inputs]
            lone.run([np.zeros(tuple(shape), given.type) for shape, given in zip(shapes, self._inputs, strict=True)])
            lanes.lone = lone

    def _lone(self, graph: Any) -> _Compiled:
        return _Compiled(_compiled(graph, self._compute, 1), graph.is_dynamic())

    @property
    def _streams(self) -> int:
        # More streams than threads would leave streams without a core.
        return max(1, min(self._compute.streams, self._compute.threads))

    @property
    def _wants_lone(self) -> bool:
        return self._compute.lone and self._streams > 1


class _Lanes:
    """One shape, compiled for calls side by side (``many``) and for a call that is alone (``lone``)."""

    __slots__ = ("lone", "many")

    def __init__(self, many: _Compiled, lone: _Compiled | None) -> None:
        self.many = many
        self.lone = lone


class _Compiled:
    """A compiled graph and its infer requests; the request used last is used first, because its memory is warm."""

    def __init__(self, compiled: Any, free_shape: bool) -> None:
        self.compiled = compiled
        self._tensor = _openvino().Tensor
        self._idle: list[Any] = []
        self._outputs = [] if free_shape else [(tuple(node.shape), node.element_type) for node in compiled.outputs]
        self._count = len(compiled.outputs)
        self._runs = 0
        self._runs_then = 0

    def run(self, feeds: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs, as arrays of the caller's own."""
        self._runs += 1
        try:
            request = self._idle.pop()
        except IndexError:
            request = self.compiled.create_infer_request()
        inputs = [self._tensor(feed, shared_memory=True) for feed in feeds]
        for index, tensor in enumerate(inputs):
            request.set_input_tensor(index, tensor)
        request.start_async()
        request.wait()
        outputs = [np.array(request.get_output_tensor(index).data) for index in range(self._count)]
        self._idle.append(request)
        return outputs

    def tire(self) -> None:
        """Gives back the memory that only a run needs, if there was none since this was last called."""
        if self._runs == self._runs_then:
            with suppress(RuntimeError):  # one has just begun
                self.compiled.release_memory()
        self._runs_then = self._runs


class _Input:
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


def _image_input(inputs: Sequence[_Input]) -> _Input | None:
    """The only input, or the only one with four axes."""
    if len(inputs) == 1:
        return inputs[0]
    pictures = [given for given in inputs if given.shape.rank.is_static and len(given.shape) == 4]
    return pictures[0] if len(pictures) == 1 else None


def _read(card: Card) -> Any:
    path = Path(card.files[0]) if card.files else None
    if path is None or not path.is_file():
        raise CorruptFiles(f"The files of the model '{card.name}' are gone. Add or pull the model again.")
    if path.suffix == ".json":
        raise UnsupportedModel(
            f"The model '{card.name}' is a Paddle graph of the form .json, which OpenVINO cannot read. "
            "Export it as .pdmodel (FLAGS_enable_pir_api=0) or as ONNX."
        )
    try:
        return _with_plain_slices(_core().read_model(str(path)))
    except RuntimeError as error:
        if any(mark in str(error) for mark in ("OpConversionFailure", "No conversion rule", "not supported")):
            raise UnsupportedModel(
                f"The graph of '{card.name}' uses operations that this version of OpenVINO cannot read."
            ) from None
        raise CorruptFiles(
            f"The files of the model '{card.name}' cannot be read as a {path.suffix.lstrip('.') or 'model'} graph: "
            "they are damaged or incomplete. Add or pull the model again."
        ) from None


def _with_plain_slices(graph: Any) -> Any:
    """The graph, whose Slices that GatherElements reads have become StridedSlices; changed in place.

    OpenVINO 2026.4 joins the Slices of one transposed tensor wrongly where GatherElements reads them, and cannot
    compile what comes out: the YOLO26 exports without suppression for segments, poses and oriented boxes.
    """
    gathers = [node for node in graph.get_ops() if node.get_type_name() == "GatherElements"]
    if not any(node.input_value(0).get_node().get_type_name() == "Slice" for node in gathers):
        return graph
    # The arguments of exported slices are often small computations.
    passes = import_module("openvino.passes")
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(graph)
    for gather in gathers:
        piece = gather.input_value(0).get_node()
        if piece.get_type_name() == "Slice" and piece.input_value(0).get_partial_shape().rank.is_static:
            arguments = [value.get_node() for value in piece.input_values()[1:]]
            if len(arguments) == 4 and all(node.get_type_name() == "Constant" for node in arguments):
                piece.output(0).replace(_strided(piece.input_value(0), *(node.get_data() for node in arguments)))
    return graph


def _strided(source: Any, starts: Any, stops: Any, steps: Any, axes: Any) -> Any:
    """The output of the StridedSlice that cuts as a Slice with these arguments does."""
    rank = source.get_partial_shape().rank.get_length()
    begin, end, stride, free = [0] * rank, [0] * rank, [1] * rank, [1] * rank
    for start, stop, step, axis in zip(*(part.ravel().tolist() for part in (starts, stops, steps, axes)), strict=True):
        begin[axis], end[axis], stride[axis], free[axis] = start, stop, step, 0
    operations = import_module("openvino.opset13")
    return operations.strided_slice(source, begin, end, stride, free, free).output(0)


def _put_arithmetic_into(graph: Any, card: Card, pixels: Mapping[str, Pixels]) -> None:
    """Lets the named inputs take uint8 pictures (n, height, width, 3) in RGB; changes the graph in place.

    OpenVINO's own PrePostProcessor would turn the bytes round first, and compute then: what the processor's
    convolutions want is the picture's own order, so that they turned the numbers back (2 to 3 % of a yolov8n).
    """
    inputs = [_Input(node, index) for index, node in enumerate(graph.inputs)]
    for name, wanted in pixels.items():
        given = next((known for known in inputs if name in known.names), None) if name else _image_input(inputs)
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
    partial, dimension = _openvino().PartialShape, _openvino().Dimension
    axes = [dimension()] * 4 if shape.rank.is_dynamic else list(shape)
    if len(axes) != 4:
        return None
    n, height, width, channels = axes if layout == "NHWC" else (axes[0], axes[2], axes[3], axes[1])
    return partial([n, height, width, dimension(3)]) if channels.compatible(dimension(3)) else None


def _pictures(parameter: Any, shape: Any) -> Any:
    """An input for bytes with the names of another one."""
    made = import_module("openvino.opset13").parameter(shape, _openvino().Type.u8)
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
    if mean.any() or (std != 1).any():
        node = operations.convert(node, "f32")
    if mean.any():
        node = operations.subtract(node, mean)
    if (std != 1).any():
        node = operations.divide(node, std)
    if node.get_output_element_type(0) != kind:
        node = operations.convert(node, kind)
    if picture.layout == "NCHW":
        node = operations.transpose(node, np.array([0, 3, 1, 2]))
    return node.output(0)


def _compiled(graph: Any, compute: Compute, streams: int) -> Any:
    settings: dict[str, Any] = {
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": str(compute.threads),
        # With pinning, two compiled graphs sit on the same cores: 42 instead of 68 images/s on two cores.
        "ENABLE_CPU_PINNING": "NO",
    }
    if compute.precision == "f32":
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    with _compiling:
        if compute.cache_dir is None:
            return _core().compile_model(graph, "CPU", settings)
        # Graphs of different precision may get the same file name, and loading the wrong one crashes the process.
        folder = Path(compute.cache_dir) / f"{compute.precision}-{streams}x{compute.threads}"
        with ExitStack() as held:
            try:
                held.enter_context(alone(folder))
            except OSError:  # nothing can be kept there
                return _core().compile_model(graph, "CPU", settings)
            look_through(folder)
            made = _core().compile_model(graph, "CPU", {**settings, "CACHE_DIR": str(folder)})
            seal(folder)
            return made


def _put_aside(compute: Compute) -> None:
    """Takes the pages of compiled graphs' files out of memory: a compile reads them once, and has its own copy then.

    They stay in the system's cache of files, and come back if they are read after all.
    """
    if compute.cache_dir is None or sys.platform != "linux":
        return
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, *_, file = line.split(maxsplit=5)
        if file.endswith(".blob") and file.startswith(compute.cache_dir) and rights[1] == "-":
            begin, end = (int(edge, 16) for edge in span.split("-"))
            advise(begin, end - begin, DONTNEED)


@cache
def _core() -> Any:
    return _openvino().Core()


@cache
def _openvino() -> ModuleType:
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
    except ImportError:
        raise MissingExtra("The runtime 'openvino'", extra="openvino") from None
    finally:
        if without:
            del modules[tools]
