"""The way of an NVIDIA card, walked on a processor: pictures are normalised by a graph of their own, and handed on."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
from msgspec.structs import replace
from onnx import TensorProto, helper, save

from saccade.card import Card, Pixels
from saccade.errors import Overloaded, RunFailed
from saccade.runtimes.onnxruntime import (
    RUNTIME,
    TYPES,
    CudaSession,
    Input,
    OnnxSession,
    _providers,
    eye_of,
    normalised,
)
from saccade.runtimes.session import Compute

CARD = Card(name="toy", task="classify", family="none", runtime="onnxruntime")
IMAGENET = Pixels(order="BGR", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def opened(folder: Path, kind: int, pixels: Pixels) -> CudaSession:
    """A graph that answers with what it is given, in floats of this kind."""
    axes = ("n", 3, "h", "w") if pixels.layout == "NCHW" else ("n", "h", "w", 3)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "toy",
        [helper.make_tensor_value_info("x", kind, axes)],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    path = folder / "toy.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = {entry.name: Input(entry.name, entry.shape, TYPES[entry.type]) for entry in session.get_inputs()}
    eye = eye_of(onnxruntime, pixels, inputs["x"].type, Compute(precision="f32", threads=1, streams=1), CARD)
    return CudaSession(OnnxSession(session, "toy", inputs, inputs["x"]), {"x": eye}, memory="cpu")


@pytest.mark.parametrize(
    "pixels", [Pixels(scale=1 / 255), IMAGENET, Pixels(layout="NHWC")], ids=["x/255", "BGR", "NHWC"]
)
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16], ids=["float", "half"])
def test_pictures_reach_the_graph_in_its_own_floats(tmp_path: Path, kind: int, pixels: Pixels) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    [output] = opened(tmp_path, kind, pixels).run({"": images})
    assert output.dtype == (np.float32 if kind == TensorProto.FLOAT else np.float16)
    wanted = normalised(images, pixels)
    np.testing.assert_allclose(output, wanted, rtol=1e-6 if kind == TensorProto.FLOAT else 1e-3, atol=1e-6)


def test_the_references_numbers_are_not_rounded_on_a_card() -> None:
    library = ModuleType("onnxruntime")
    library.get_available_providers = lambda: ["CUDAExecutionProvider"]  # type: ignore[attr-defined]
    for precision, rounds in (("f32", 0), ("auto", 1)):
        compute = Compute(precision=precision, device="cuda")  # type: ignore[arg-type]
        (name, options), last = _providers(library, compute, CARD)
        assert (name, options["use_tf32"], last) == ("CUDAExecutionProvider", rounds, "CPUExecutionProvider")


def test_a_closed_session_says_so(tmp_path: Path) -> None:
    session = opened(tmp_path, TensorProto.FLOAT, IMAGENET)
    session.close()
    with pytest.raises(RunFailed, match="closed"):
        session.run({"": np.zeros((1, 5, 7, 3), np.uint8)})


NO_MEMORY = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal() "
    "Failed to allocate memory for requested buffer of size 8388608",
    "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0 ; hostname=x ; expr=cudaMalloc(&p, size);",
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: bad allocation",
)


@pytest.mark.parametrize("words", NO_MEMORY)
def test_a_model_for_which_there_is_no_memory_now_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """It was, and so it was not tried again for half a minute."""

    class Full:
        def __init__(self, *given: object, **named: object) -> None:
            raise Exception(words)

    (tmp_path / "toy.onnx").write_bytes(b"whole")
    monkeypatch.setattr(onnxruntime, "InferenceSession", Full)
    card = replace(CARD, files=(str(tmp_path / "toy.onnx"),))
    with pytest.raises(Overloaded, match="no more memory"):
        RUNTIME(card, {}, Compute(threads=1, streams=1))


@pytest.mark.parametrize("words", NO_MEMORY)
def test_a_run_for_which_there_is_no_memory_now_may_succeed_later(words: str) -> None:
    opened = OnnxSession(Nothing(), "toy", {}, None)
    assert isinstance(opened.failed(Exception(words), {}), Overloaded)
    assert isinstance(opened.failed(Exception("Invalid rank"), {}), RunFailed)


class Nothing:
    """A session without outputs."""

    def get_outputs(self) -> list[object]:
        return []
