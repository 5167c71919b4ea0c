"""ONNX Runtime, the way to NVIDIA cards (CUDA, TensorRT), and a second opinion on processors.

On a card the uint8 pixels are copied over and normalised there, by a small graph of their own; half precision and
channel order are left to the provider. On a processor the arithmetic is done with numpy, before the graph.
"""

from __future__ import annotations

import ctypes
import io
import re
import sys
import threading
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.card import MASK, Card, Pixels
from saccade.discover import nvidia_driver
from saccade.errors import (
    BadSettings,
    CorruptFiles,
    MissingExtra,
    Overloaded,
    RunFailed,
    UnsupportedModel,
    short_of,
)
from saccade.ops.grids import Grids
from saccade.runtimes.graph_files import together, unread
from saccade.runtimes.session import Compute, Session, cut_off, filled_up, masked, suited

TYPES: dict[str, str] = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
SILENT = 4
"""Only fatal messages: what goes wrong is told by the errors here, without paths."""

UNREAD = re.compile(r"No Op registered for ([\w.]{1,200})|error: ([\w.:]{1,200})\(-?\d+\) is not a registered")
"""Where ONNX Runtime names an operation that it does not know."""

_opening = threading.Lock()


def RUNTIME(card: Card, pixels: Mapping[str, Pixels], compute: Compute, grids: Grids | None = None) -> Session:
    """See :class:`saccade.runtimes.session.Runtime`.

    Raises:
        BadSettings: ``device`` "cuda", but no card can be used.
    """
    path = Path(card.files[0]) if card.files else None
    if path is None or not path.is_file():
        raise CorruptFiles(f"The files of the model '{card.name}' are gone. Add or pull the model again.")
    if path.suffix != ".onnx":
        raise UnsupportedModel(f"The model '{card.name}' is a {path.suffix} file; ONNX Runtime reads .onnx only.")
    library = _library(compute.device)
    try:
        with _opening, together(card.files, compute.cache_dir) as whole:
            session = library.InferenceSession(
                str(whole), sess_options=_options(library, compute), providers=_providers(library, compute, card)
            )
    except OSError as error:
        raise short_of(error) or unread(card, error) from None
    except Exception as error:
        raise _shortage(error) or _told(error, card) from None
    if compute.device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise BadSettings(
            "The device 'cuda' was asked for and there is a driver, but no card is free or CUDA's libraries cannot be "
            f"loaded. ONNX Runtime {library.__version__} wants CUDA {getattr(library, 'cuda_version', '') or '13'} and "
            "cuDNN 9: install them with pip install 'saccade[cuda]', or use --device cpu."
        )
    given = {
        entry.name: Input(entry.name, entry.shape, TYPES.get(entry.type, "float32")) for entry in session.get_inputs()
    }
    image = _image_input(given)
    arithmetic: dict[str, Pixels] = {}
    for name, picture in pixels.items():
        found = given.get(name) if name else image
        if found is None:
            raise UnsupportedModel(f"The graph of '{card.name}' has no image input{f' {name!r}' if name else ''}.")
        arithmetic[found.name] = wanted = suited(picture, found.shape, found.type)
        channels = found.shape[3 if wanted.layout == "NHWC" else 1] if len(found.shape) == 4 else 0
        if isinstance(channels, int) and channels != 3:
            raise UnsupportedModel(
                f"The image input of '{card.name}' is not a picture of three channels, as its family expects."
            )
    opened = OnnxSession(session, card.name, given, image)
    if compute.device == "cuda":
        eyes = {name: eye_of(library, picture, given[name].type, compute, card) for name, picture in arithmetic.items()}
        return CudaSession(opened, eyes)
    return ProcessorSession(opened, arithmetic)


def FURNISH() -> None:
    """Loads the library; the card is left alone."""
    _library("cpu")


class Input:
    """What one input of the graph takes; free axes are names or None."""

    __slots__ = ("name", "shape", "type")

    def __init__(self, name: str, shape: list[int | str | None], kind: str) -> None:
        self.name = name
        self.shape = shape
        self.type = kind

    def check(self, shape: tuple[int, ...], model: str) -> None:
        """Raises: RunFailed."""
        axes = zip(self.shape, shape, strict=False)
        if len(shape) != len(self.shape) or any(isinstance(want, int) and want != got for want, got in axes):
            expected = ",".join(str(axis) if isinstance(axis, int) else "?" for axis in self.shape)
            raise RunFailed(
                f"The model '{model}' takes [{expected}] at its input '{self.name}', and was given {shape}."
            )


class OnnxSession:
    """An opened graph with what both kinds of device need of it."""

    def __init__(self, session: Any, name: str, inputs: Mapping[str, Input], image: Input | None) -> None:
        self.session: Any = session
        self.name = name
        self.inputs = inputs
        self.image = image
        self.outputs = [output.name for output in session.get_outputs()]
        self.batchable = all(given.shape and not isinstance(given.shape[0], int) for given in inputs.values())

    def named(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The tensors under the graph's own names.

        Raises:
            RunFailed: one is missing or unknown, or the session is closed.
        """
        if self.session is None:
            raise RunFailed(f"The model '{self.name}' is closed.")
        if (mask := self.inputs.get(MASK)) is not None:
            tensors = masked(tensors, mask.shape)
        feeds: dict[str, NDArray[Any]] = {}
        for name, tensor in tensors.items():
            given = self.inputs.get(name) if name else self.image
            if given is None:
                expected = ", ".join(self.inputs)
                raise RunFailed(f"The model '{self.name}' has no input '{name or 'image'}'; it takes {expected}.")
            feeds[given.name] = filled_up(tensor, given.shape)
        for name in self.inputs:
            if name not in feeds:
                raise RunFailed(f"The model '{self.name}' needs an input '{name}', which was not given.")
        return feeds

    def failed(self, error: Exception, feeds: Mapping[str, NDArray[Any]]) -> Overloaded | RunFailed:
        """What is told when the graph fails."""
        if (shortage := _shortage(error)) is not None:
            return shortage
        shapes = ", ".join(str(feed.shape) for feed in feeds.values())
        return RunFailed(f"The model '{self.name}' failed on an input of shape {shapes} ({type(error).__name__}).")


class ProcessorSession:
    """See :class:`saccade.runtimes.session.Session`."""

    def __init__(self, opened: OnnxSession, pixels: Mapping[str, Pixels]) -> None:
        self.batchable = opened.batchable
        self._opened = opened
        self._pixels = pixels

    def run(self, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """See the contract."""
        opened = self._opened
        feeds = opened.named(tensors)
        for name, tensor in feeds.items():
            given = opened.inputs[name]
            picture = self._pixels.get(name)
            ready = tensor if picture is None else normalised(tensor, picture)
            feeds[name] = np.ascontiguousarray(ready, dtype=given.type)
            given.check(feeds[name].shape, opened.name)
        try:
            outputs = [np.asarray(output) for output in opened.session.run(None, feeds)]
        except Exception as error:
            raise opened.failed(error, feeds) from None
        return cut_off(outputs, tensors, feeds.values())

    def close(self) -> None:
        """See the contract."""
        self._opened.session = None


class CudaSession:
    """See :class:`saccade.runtimes.session.Session`; pixels are normalised on the card and stay there.

    ``memory`` is where what the eyes see lies; tests without a card have it in the processor's.
    """

    def __init__(self, opened: OnnxSession, eyes: Mapping[str, Any], memory: str = "cuda") -> None:
        self.batchable = opened.batchable
        self._opened = opened
        self._eyes = eyes
        self._memory = memory

    def run(self, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """See the contract."""
        opened = self._opened
        feeds = opened.named(tensors)
        try:
            binding = opened.session.io_binding()
            for name, tensor in feeds.items():
                eye = self._eyes.get(name)
                given = opened.inputs[name]
                if eye is None:
                    ready = np.ascontiguousarray(tensor, dtype=given.type)
                    given.check(ready.shape, opened.name)
                    binding.bind_cpu_input(name, ready)
                    continue
                look = eye.io_binding()
                look.bind_cpu_input("x", np.ascontiguousarray(tensor, dtype=np.uint8))
                look.bind_output("y", self._memory)
                eye.run_with_iobinding(look)
                seen = look.get_outputs()[0]
                given.check(tuple(seen.shape()), opened.name)
                binding.bind_ortvalue_input(name, seen)
            for name in opened.outputs:
                binding.bind_output(name)
            opened.session.run_with_iobinding(binding)
            outputs = [np.asarray(output) for output in binding.copy_outputs_to_cpu()]
        except RunFailed:
            raise
        except Exception as error:
            raise opened.failed(error, feeds) from None
        return cut_off(outputs, tensors, feeds.values())

    def close(self) -> None:
        """See the contract."""
        self._opened.session = None
        self._eyes = {}


def normalised(images: NDArray[Any], pixels: Pixels) -> NDArray[np.float32]:
    """uint8 (n, height, width, 3) RGB as the graph wants it."""
    ordered = images[..., ::-1] if pixels.order == "BGR" else images
    laid = ordered if pixels.layout == "NHWC" else ordered.transpose(0, 3, 1, 2)
    floats = np.array(laid, dtype=np.float32, order="C")
    scale, shift = _line(pixels)
    axes = (1, 1, 1, 3) if pixels.layout == "NHWC" else (1, 3, 1, 1)
    floats *= scale.reshape(axes)
    if shift.any():
        floats += shift.reshape(axes)
    return floats


def _line(pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """``(x * scale - mean) / std`` as one factor and one summand per channel."""
    std = np.array(pixels.std, dtype=np.float64)
    factor = pixels.scale / std
    return factor.astype(np.float32), (-np.array(pixels.mean, dtype=np.float64) / std).astype(np.float32)


def eye_of(library: Any, pixels: Pixels, kind: str, compute: Compute, card: Card) -> Any:
    """A session that normalises pictures on the card: uint8 NHWC "x" → "y" in the graph's layout and type."""
    try:
        from onnx import TensorProto, helper
    except ImportError:
        raise MissingExtra("Running on NVIDIA cards", extra="cuda") from None
    scale, shift = _line(pixels)
    if pixels.order == "BGR":
        # The channels are turned after the arithmetic, so its numbers are turned here.
        scale, shift = scale[::-1], shift[::-1]
    nodes = [
        helper.make_node("Cast", ["x"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["ready"]),
        helper.make_node("Gather", ["ready", "order"], ["ordered"], axis=3),
        helper.make_node(
            "Transpose", ["ordered"], ["laid"], perm=(0, 3, 1, 2) if pixels.layout == "NCHW" else (0, 1, 2, 3)
        ),
        # Exports in half precision take nothing else.
        helper.make_node("Cast", ["laid"], ["y"], to=helper.np_dtype_to_tensor_dtype(np.dtype(kind))),
    ]
    order = (2, 1, 0) if pixels.order == "BGR" else (0, 1, 2)
    graph = helper.make_graph(
        nodes,
        "eye",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ("n", "h", "w", 3))],
        [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(np.dtype(kind)), None)],
        initializer=[
            helper.make_tensor("scale", TensorProto.FLOAT, (3,), scale.tolist()),
            helper.make_tensor("shift", TensorProto.FLOAT, (3,), shift.tolist()),
            helper.make_tensor("order", TensorProto.INT64, (3,), order),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    providers = [provider for provider in _providers(library, compute, card) if "Tensorrt" not in str(provider)]
    return library.InferenceSession(
        model.SerializeToString(), sess_options=_options(library, compute), providers=providers
    )


def _options(library: Any, compute: Compute) -> Any:
    options = library.SessionOptions()
    options.log_severity_level = SILENT
    # Calls run side by side, so each gets its share of the cores; spinning threads would take them from others.
    options.intra_op_num_threads = max(1, compute.threads // max(1, compute.streams))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _providers(library: Any, compute: Compute, card: Card) -> list[Any]:
    if compute.device != "cuda":
        return ["CPUExecutionProvider"]
    providers: list[Any] = []
    if compute.precision == "auto" and _tensorrt(library):
        folder = Path(compute.cache_dir or ".") / "tensorrt-fp16" / (card.revision or card.name).replace("/", "_")
        if compute.cache_dir is not None:
            folder.mkdir(parents=True, exist_ok=True)
            cached = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder)}
            providers.append(("TensorrtExecutionProvider", {"trt_fp16_enable": True, **cached}))
    # TF32 rounds float32 inputs to ten bits: fine for "auto", not for the reference's numbers. The usual search for the
    # best convolution runs again for each new shape, which pictures and batches of any size bring all the time.
    options = {"use_tf32": 0 if compute.precision == "f32" else 1, "cudnn_conv_algo_search": "HEURISTIC"}
    providers.append(("CUDAExecutionProvider", options))
    providers.append("CPUExecutionProvider")
    return providers


def _image_input(inputs: Mapping[str, Input]) -> Input | None:
    """The only input, or the only one with four axes."""
    if len(inputs) == 1:
        return next(iter(inputs.values()))
    pictures = [given for given in inputs.values() if len(given.shape) == 4]
    return pictures[0] if len(pictures) == 1 else None


def _shortage(error: Exception) -> Overloaded | None:
    """What is told where the system or the card has no more memory: the library's errors are of kinds of its own."""
    return short_of(error) or short_of(RuntimeError(str(error)))


def _told(error: Exception, card: Card) -> CorruptFiles | UnsupportedModel:
    kind, told = type(error).__name__, UNREAD.search(str(error))
    if told or kind in ("NotImplemented", "NotImplementedError") or "opset" in str(error):
        which = (told[1] or told[2]).replace(":", ".") if told else ""
        return UnsupportedModel(
            f"The graph of '{card.name}' uses operations that this ONNX Runtime does not have"
            + (f": {which}. Export it again with standard ONNX operators alone." if which else ".")
        )
    return CorruptFiles(
        f"The files of the model '{card.name}' cannot be read as an ONNX graph: they are damaged or incomplete. "
        "Add or pull the model again."
    )


@cache
def _library(device: str) -> ModuleType:
    try:
        library = import_module("onnxruntime")
    except ImportError:
        raise MissingExtra("The runtime 'onnxruntime'", extra="cuda" if device == "cuda" else "onnxruntime") from None
    library.disable_telemetry_events()  # on Windows; elsewhere see saccade.runtimes
    if device == "cuda":
        if "CUDAExecutionProvider" not in library.get_available_providers():
            raise MissingExtra("Running on NVIDIA cards", extra="cuda")
        nvidia_driver()
        library.set_default_logger_severity(SILENT)
        if hasattr(library, "preload_dlls"):
            with redirect_stdout(io.StringIO()):
                library.preload_dlls()
    return library


@cache
def _tensorrt(library: ModuleType) -> bool:
    """Whether TensorRT can be used; ONNX Runtime names its provider also where its libraries are missing."""
    if "TensorrtExecutionProvider" not in library.get_available_providers():
        return False
    try:
        ctypes.CDLL("nvinfer_10.dll" if sys.platform == "win32" else "libnvinfer.so.10")
    except OSError:
        return False
    return True
