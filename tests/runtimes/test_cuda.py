"""The way of an NVIDIA card, walked on a processor: pictures are normalised by a graph of their own, and handed on."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
from onnx import TensorProto, helper, save

from saccade.card import Card, Pixels
from saccade.errors import RunFailed
from saccade.runtimes.onnxruntime import TYPES, CudaSession, Input, OnnxSession, _providers, eye_of, normalised
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
