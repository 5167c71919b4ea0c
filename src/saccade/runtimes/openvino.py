"""OpenVINO, the runtime for processors: ONNX, Paddle, TensorFlow Lite and OpenVINO's own files.

The pictures' arithmetic (bytes → normalised floats, channel order, layout) becomes part of the graph, so that uint8
pixels go in. Every graph is compiled twice where that pays: once with one stream per thread for calls side by side,
once with all threads for a call that is alone. A graph of free shape is also compiled for the few shapes that come
often, because a compile of a fixed shape is about a tenth faster; until then, and for rare shapes, the free one
answers. Compiles that were not needed for a while keep what is costly to make and give back the rest of their memory.
"""

from __future__ import annotations

import ctypes
import re
import sys
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from saccade.card import MASK, Card, Pixels
from saccade.discover import trim
from saccade.errors import CorruptFiles, Overloaded, RunFailed, UnsupportedModel, short_of
from saccade.ops.branches import deferred
from saccade.ops.grids import Grids
from saccade.runtimes.compiled_files import alone, look_through, not_kept, room, seal
from saccade.runtimes.graph_files import together, unread
from saccade.runtimes.openvino_graph import (
    Input,
    core,
    image_input,
    library,
    put_arithmetic_into,
    settings_of,
    with_plain_slices,
    with_split_convolutions,
)
from saccade.runtimes.openvino_grids import Part, without_ends
from saccade.runtimes.openvino_tokens import with_full_steps
from saccade.runtimes.session import Compute, Session, cut_off, masked

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

MANY = 4096
"""Shapes of which is known that they run."""

DONTNEED = 4
"""Linux's MADV_DONTNEED."""

UNREAD = re.compile(r"No conversion rule found for operations: ([\w.:, -]{1,200})")
"""Where OpenVINO names the operations of a graph that it does not know."""

_compiling = threading.Lock()


def RUNTIME(card: Card, pixels: Mapping[str, Pixels], compute: Compute, grids: Grids | None = None) -> Session:
    """See :class:`saccade.runtimes.session.Runtime`."""
    graph = _read(card, compute.cache_dir)
    house = None if compute.cache_dir is None else room(compute.cache_dir, card, "openvino")
    parts: list[Part] = []
    if grids is not None:
        graph, parts = without_ends(graph, grids, card.files, house, compute.threads, _in_half(compute))
    graph = with_split_convolutions(graph)
    put_arithmetic_into(graph, card, pixels)
    weights = sum(Path(file).stat().st_size for file in card.files if Path(file).is_file())
    shapes = min(compute.shapes, SHAPES_BYTES // max(1, weights))
    kept = None if house is None else str(house)
    return OpenVinoSession(graph, card.name, msgspec.structs.replace(compute, shapes=shapes, cache_dir=kept), parts)


def FURNISH() -> None:
    """Loads the library and its part for processors; no thread is started."""
    core().get_property("CPU", "FULL_DEVICE_NAME")


class OpenVinoSession:
    """A compiled graph; see :class:`saccade.runtimes.session.Session`."""

    def __init__(self, graph: Any, name: str, compute: Compute, parts: Sequence[Part] = ()) -> None:
        """``parts``: arrays of levels that the first outputs stand for."""
        self._graph = graph
        self._parts = parts
        self._ends = max((part.output + 1 for part in parts), default=0)
        self._name = name
        self._compute = compute
        self._inputs = [Input(node, index) for index, node in enumerate(graph.inputs)]
        self._by_name = {name: given for given in self._inputs for name in given.names}
        self._image = image_input(self._inputs)
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
        self._answered: set[Shapes] = set()
        self._renewing = threading.Lock()
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
        shapes = tuple(feed.shape for feed in feeds)
        try:
            lanes = self._lanes_for(shapes)
            try:
                outputs = self._told(lanes, idle, tensors, feeds)
            except RuntimeError as error:
                # Where a shape of another call failed, OpenVINO goes on to fail at the shape before, which is sound.
                if shapes not in self._answered or short_of(error):
                    raise
                outputs = self._told(self._renewed(lanes), idle, tensors, feeds)
            if self._free_shape:
                self._note(shapes)
            return outputs
        except RuntimeError as error:
            which = ", ".join(map(str, shapes))
            raise short_of(error) or RunFailed(
                f"The model '{self._name}' failed on an input of shape {which}."
            ) from None
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

    def _told(
        self, lanes: _Lanes, idle: bool, tensors: Mapping[str, NDArray[Any]], feeds: Sequence[NDArray[Any]]
    ) -> list[NDArray[Any]]:
        """The levels' arrays, if the graph ends with such, and the other outputs."""
        if idle and lanes.lone is not None and self._alone.acquire(blocking=False):
            try:
                outputs = lanes.lone.run(feeds)
            finally:
                self._alone.release()
        else:
            outputs = lanes.many.run(feeds)
        outputs = cut_off(outputs, tensors, feeds)
        arrays = [
            outputs[part.output] if part.branch is None else deferred(outputs[part.output], part.branch)
            for part in self._parts
        ]
        # Maps beside levels lie channels last in memory.
        others = outputs[self._ends :]
        return arrays + [other.transpose(0, 3, 1, 2) if self._parts and other.ndim == 4 else other for other in others]

    def _feeds(self, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """One contiguous array of the graph's type per input, in the graph's order."""
        if (mask := self._by_name.get(MASK)) is not None:
            tensors = masked(tensors, mask.sizes)
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

    def _note(self, shapes: Shapes) -> None:
        """Remembers that the graph can run at these shapes."""
        if shapes not in self._answered:
            with self._lock:
                if len(self._answered) >= MANY:
                    self._answered.clear()
                self._answered.add(shapes)

    def _renewed(self, lanes: _Lanes) -> _Lanes:
        """The compile for all shapes, made anew if it is still this one."""
        with self._renewing:
            if self._lanes is lanes:
                fresh = self._compile(self._graph)
                with self._lock:
                    self._lanes = None if self._lanes is None else fresh
            if self._lanes is None:
                raise RunFailed(f"The model '{self._name}' is closed.")
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
            with suppress(RuntimeError, CorruptFiles, Overloaded, UnsupportedModel):
                graph = self._graph.clone()
                graph.reshape({index: list(shape) for index, shape in enumerate(shapes)})
                lanes = self._compile(graph)
        finally:  # one that ended otherwise, for want of memory, would keep all others from a compile of their own
            self._take(shapes, lanes)
        _put_aside(self._compute)

    def _take(self, shapes: Shapes, lanes: _Lanes | None) -> None:
        """Answers calls of these shapes by their own compile, or for good by the one for all."""
        with self._lock:
            self._pending.discard(shapes)
            if lanes is None:
                self._refused.add(shapes)
                return
            seen = Counter(self._recent)
            while len(self._fixed) >= self._compute.shapes:
                self._fixed.pop(min(self._fixed, key=lambda known: seen[known]))
            self._fixed[shapes] = lanes

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
            many = _Compiled(_compiled(graph, self._compute, self._streams), bool(self._parts))
            # A graph that is compiled for the first time takes long; then the whole is there when it's done.
            later = hasty and many.compiled.get_property("LOADED_FROM_CACHE")
            return _Lanes(many, self._lone(graph) if self._wants_lone and not later else None)
        except RuntimeError as error:
            raise short_of(error) or UnsupportedModel(
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
        trim()

    def _compile_late(self, lanes: _Lanes) -> None:
        with suppress(RuntimeError):
            lone = self._lone(self._graph)
            # Its first run takes longer than the others; no caller should pay for that.
            shapes = self._recent[-1] if self._recent else [given.shape.get_shape() for given in self._inputs]
            lone.run([np.zeros(tuple(shape), given.type) for shape, given in zip(shapes, self._inputs, strict=True)])
            lanes.lone = lone

    def _lone(self, graph: Any) -> _Compiled:
        return _Compiled(_compiled(graph, self._compute, 1), bool(self._parts))

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

    def __init__(self, compiled: Any, lends: bool) -> None:
        """``lends``: outputs are the requests' own memory, for readers that copy at once what they keep."""
        self.compiled = compiled
        self._lends = lends
        self._tensor = library().Tensor
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._made = 0
        self._runs = 0
        self._runs_then = 0
        self._halves = [node.get_element_type().get_type_name() == "bf16" for node in compiled.outputs]

    def run(self, feeds: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs, as arrays that nothing else writes to as long as somebody holds them.

        Of bfloat16, which numpy does not know, they are the bits.
        """
        with self._lock:
            self._runs += 1
            request = self._idle.pop() if self._idle else None
            self._made += request is None
        loan = _Loan(request or self.compiled.create_infer_request(), self._idle)
        inputs = [self._tensor(feed, shared_memory=True) for feed in feeds]
        for index, tensor in enumerate(inputs):
            loan.request.set_input_tensor(index, tensor)
        loan.request.start_async()
        loan.request.wait()
        outputs = [loan.request.get_output_tensor(index).data for index in range(len(self._halves))]
        if self._lends:
            outputs = [np.asarray(_Lent(output, loan)) for output in outputs]
        else:
            outputs = [np.array(output) for output in outputs]
        return [output.view(np.uint16) if half else output for output, half in zip(outputs, self._halves, strict=True)]

    def tire(self) -> None:
        """Gives back the memory that only a run needs, if there was none since this was last called."""
        with self._lock:
            if self._runs == self._runs_then and len(self._idle) == self._made:
                with suppress(RuntimeError):
                    self.compiled.release_memory()
            self._runs_then = self._runs


class _Loan:
    """A request that is idle again when nobody holds anything of it any more."""

    def __init__(self, request: Any, idle: list[Any]) -> None:
        self.request = request
        self._idle = idle

    def __del__(self) -> None:
        self._idle.append(self.request)


class _Lent:
    """An output in the memory of a request, as numpy takes it: the array, and all views of it, hold the loan."""

    def __init__(self, output: NDArray[Any], loan: _Loan) -> None:
        self.__array_interface__ = output.__array_interface__
        self._loan = loan


def _in_half(compute: Compute) -> bool:
    """Whether graphs are computed in bfloat16."""
    return compute.precision == "auto" and core().get_property("CPU", "INFERENCE_PRECISION_HINT") == library().Type.bf16


def _read(card: Card, cache_dir: str | None) -> Any:
    path = Path(card.files[0]) if card.files else None
    if path is None or not path.is_file():
        raise CorruptFiles(f"The files of the model '{card.name}' are gone. Add or pull the model again.")
    if path.suffix == ".json":
        raise UnsupportedModel(
            f"The model '{card.name}' is a Paddle graph of the form .json, which OpenVINO cannot read. "
            "Export it as .pdmodel (FLAGS_enable_pir_api=0) or as ONNX."
        )
    try:
        with together(card.files, cache_dir) as found:
            return with_plain_slices(core().read_model(str(found)))
    except OSError as error:
        raise unread(card, error) from None
    except RuntimeError as error:
        if any(mark in str(error) for mark in ("OpConversionFailure", "No conversion rule", "not supported")):
            told = UNREAD.search(str(error))
            which = f": {told[1]}" if told else ""
            raise UnsupportedModel(
                f"The graph of '{card.name}' uses operations that this version of OpenVINO cannot read{which}. Export "
                "it again with standard ONNX operators alone."
            ) from None
        raise CorruptFiles(
            f"The files of the model '{card.name}' cannot be read as a {path.suffix.lstrip('.') or 'model'} graph: "
            "they are damaged or incomplete. Add or pull the model again."
        ) from None


def _compiled(graph: Any, compute: Compute, streams: int) -> Any:
    settings = settings_of(streams, compute.threads, exact=compute.precision == "f32")
    if streams < compute.threads and _in_half(compute):
        graph = with_full_steps(graph)
    with _compiling:
        if compute.cache_dir is None:
            return core().compile_model(graph, "CPU", settings)
        # Graphs of different precision may get the same file name, and loading the wrong one crashes the process.
        folder = Path(compute.cache_dir) / f"{compute.precision}-{streams}x{compute.threads}"
        name = _name(graph)
        look_through(folder)
        with ExitStack() as held:
            try:
                held.enter_context(alone(folder, name))
            except OSError:  # nothing can be kept there
                not_kept()
                return core().compile_model(graph, "CPU", settings)
            made = core().compile_model(graph, "CPU", {**settings, "CACHE_DIR": str(folder)})
            seal(folder, name, made.get_property("LOADED_FROM_CACHE"))
            return made


def _name(graph: Any) -> str:
    """The same for graphs that this library compiles to the same: another form or another version has another."""
    operations = [operation.get_type_name() for operation in graph.get_ordered_ops()]
    facts = (library().__version__, [str(given.partial_shape) for given in graph.inputs], operations)
    return blake2b(repr(facts).encode(), digest_size=10).hexdigest()


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
