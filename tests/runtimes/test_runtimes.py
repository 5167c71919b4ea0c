"""The contract of every runtime: the same numbers on toy graphs, batches that equal singles, and clear refusals."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, save

from saccade import runtimes
from saccade.card import Card, Pixels
from saccade.discover import resident_bytes
from saccade.errors import CorruptFiles, Overloaded, RunFailed, UnsupportedModel
from saccade.runtimes.session import Compute, Session

HALF = Compute(precision="f32", threads=2, streams=2)
IMAGENET = Pixels(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

Opener = Callable[..., Session]


@pytest.fixture(params=["openvino", "onnxruntime"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Opens a toy graph with one of the runtimes, and closes it afterwards."""
    name: str = request.param
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    sessions: list[Session] = []

    def open_graph(
        nodes: Sequence[Any],
        inputs: dict[str, Sequence[int | str]],
        pixels: dict[str, Pixels] | None = None,
        compute: Compute = HALF,
        constants: Sequence[Any] = (),
        kind: int = TensorProto.FLOAT,
    ) -> Session:
        path = tmp_path / "toy.onnx"
        floats = [helper.make_tensor_value_info(key, kind, shape) for key, shape in inputs.items()]
        output = helper.make_tensor_value_info("y", kind, None)
        graph = helper.make_graph(list(nodes), "toy", floats, [output], initializer=list(constants))
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        card = Card(name="toy", task="classify", family="none", runtime=name, files=(str(path),))
        sessions.append(runtimes.find(name)(card, pixels or {}, compute))
        return sessions[-1]

    yield open_graph
    for session in sessions:
        session.close()


IDENTITY = (helper.make_node("Identity", ["x"], ["y"]),)
FREE: dict[str, Sequence[int | str]] = {"x": ("n", 3, "h", "w")}


def picture(height: int = 5, width: int = 7, count: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(height * width + count).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def normalised(images: NDArray[np.uint8], pixels: Pixels) -> NDArray[np.float32]:
    channels = images.astype(np.float64)
    if pixels.order == "BGR":
        channels = channels[..., ::-1]
    floats = (channels * pixels.scale - np.array(pixels.mean)) / np.array(pixels.std)
    ordered = floats if pixels.layout == "NHWC" else floats.transpose(0, 3, 1, 2)
    return np.asarray(ordered, dtype=np.float32)


def test_a_graph_whose_channels_are_last_gets_them_there_whatever_its_family_says(opened: Opener) -> None:
    session = opened(IDENTITY, {"x": (1, 5, 7, 3)}, {"": IMAGENET})
    (output,) = session.run({"": picture()})
    expected = normalised(picture(), IMAGENET).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)


def test_a_graph_that_takes_bytes_gets_bytes(opened: Opener) -> None:
    session = opened(IDENTITY, {"x": ("n", 3, "h", "w")}, {"": IMAGENET}, kind=TensorProto.UINT8)
    (output,) = session.run({"": picture()})
    np.testing.assert_array_equal(output, picture().transpose(0, 3, 1, 2))


def test_a_graph_of_a_fixed_batch_answers_for_the_images_that_it_is_given(opened: Opener) -> None:
    session = opened(IDENTITY, {"x": (4, 3, 5, 7)}, {"": IMAGENET})
    for count in (1, 3, 4):
        (output,) = session.run({"": picture(count=count)})
        np.testing.assert_allclose(output, normalised(picture(count=count), IMAGENET), rtol=1e-5, atol=1e-5)
    with pytest.raises(RunFailed):
        session.run({"": picture(count=5)})


def test_rows_that_are_no_images_are_all_kept(opened: Opener) -> None:
    nodes = (helper.make_node("Reshape", ["x", "shape"], ["y"]),)
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 3])
    session = opened(nodes, {"x": (1, 3, 5, 7)}, {"": Pixels()}, constants=[shape])
    (output,) = session.run({"": picture()})
    assert output.shape == (35, 3)


def test_of_an_output_of_another_length_nothing_is_cut_off_where_a_batch_was_filled(opened: Opener) -> None:
    nodes = (helper.make_node("Reshape", ["x", "shape"], ["y"]),)
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 3])
    session = opened(nodes, {"x": (4, 3, 5, 7)}, {"": Pixels()}, constants=[shape])
    (output,) = session.run({"": picture()})
    assert output.shape == (140, 3)


def test_a_float_input_goes_through_as_it_is(opened: Opener) -> None:
    session = opened(IDENTITY, FREE)
    tensor = np.random.default_rng(0).standard_normal((1, 3, 4, 6)).astype(np.float32)
    (output,) = session.run({"x": tensor})
    np.testing.assert_array_equal(output, tensor)


@pytest.mark.parametrize(
    "pixels",
    [Pixels(), Pixels(scale=1 / 255), Pixels(order="BGR", mean=(1.0, 20.0, 300.0), std=(1.0, 2.0, 4.0)), IMAGENET],
    ids=["raw", "x/255", "BGR", "ImageNet"],
)
def test_pixels_are_normalised_as_in_float_arithmetic(opened: Opener, pixels: Pixels) -> None:
    session = opened(IDENTITY, FREE, {"": pixels})
    (output,) = session.run({"": picture()})
    np.testing.assert_allclose(output, normalised(picture(), pixels), rtol=1e-6, atol=1e-6)


def test_pixels_reach_a_graph_that_wants_the_channels_last(opened: Opener) -> None:
    pixels = Pixels(layout="NHWC", order="BGR", scale=1 / 127.5, mean=(1.0, 1.0, 1.0))
    session = opened(IDENTITY, {"x": (1, 5, 7, 3)}, {"x": pixels})
    (output,) = session.run({"x": picture()})
    np.testing.assert_allclose(output, normalised(picture(), pixels), rtol=1e-6, atol=1e-6)


def test_a_batch_equals_its_singles(opened: Opener) -> None:
    weights = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)
    constant = helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)
    session = opened((helper.make_node("Conv", ["x", "w"], ["y"]),), FREE, {"": IMAGENET}, constants=[constant])
    assert session.batchable
    images = picture(16, 12, count=3)
    (batch,) = session.run({"": images})
    for index in range(3):
        (single,) = session.run({"": images[index : index + 1]})
        np.testing.assert_allclose(batch[index], single[0], rtol=1e-5, atol=1e-5)


def test_a_graph_of_fixed_batch_says_so(opened: Opener) -> None:
    assert not opened(IDENTITY, {"x": (1, 3, 4, 4)}).batchable


def test_a_second_input_is_found_by_its_name(opened: Opener) -> None:
    nodes = (helper.make_node("Mul", ["x", "scale_factor"], ["y"]),)
    session = opened(nodes, {"x": ("n", 3, "h", "w"), "scale_factor": ("n", 1)}, {"": Pixels()})
    (output,) = session.run({"": picture(1, 1), "scale_factor": np.array([[2.0]], dtype=np.float32)})
    np.testing.assert_array_equal(output, normalised(picture(1, 1), Pixels()) * 2)


@pytest.mark.parametrize(("sides", "counted"), [(("mh", "mw"), 5 * 7), ((64, 64), 64 * 64)])
def test_a_graph_that_wants_a_mask_gets_one_of_the_whole_picture_where_nothing_is_padded(
    opened: Opener, sides: Sequence[int | str], counted: int
) -> None:
    """As DETRs are exported, whose masks some exporters leave at 64 by 64 pixels."""
    nodes = [
        helper.make_node("ReduceSum", ["pixel_mask", "axes"], ["sum"], keepdims=1),
        helper.make_node("Add", ["sum", "zero"], ["seen"]),
        helper.make_node("ReduceMax", ["x"], ["most"], axes=[1], keepdims=0),
        helper.make_node("Mul", ["most", "zero"], ["none"]),
        helper.make_node("Add", ["none", "seen"], ["y"]),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
    ]
    session = opened(nodes, {**FREE, "pixel_mask": ("n", *sides)}, {"": IMAGENET}, constants=constants)
    (output,) = session.run({"": picture(count=2)})
    assert output.shape == (2, 5, 7)
    assert set(output.flat) == {counted}
    (output,) = session.run({"": picture(), "pixel_mask": np.zeros((1, 64, 64), np.int64)})
    assert set(output.flat) == {0}


def test_outputs_belong_to_the_caller(opened: Opener) -> None:
    session = opened(IDENTITY, FREE)
    (first,) = session.run({"x": np.ones((1, 3, 2, 2), np.float32)})
    (second,) = session.run({"x": np.zeros((1, 3, 2, 2), np.float32)})
    assert first.all()
    second += 5
    assert first.max() == 1


def test_many_threads_and_many_shapes_do_not_disturb_each_other(opened: Opener) -> None:
    session = opened(IDENTITY, FREE, {"": IMAGENET}, Compute(precision="f32", threads=2, streams=2, shapes=2))
    wrong: list[str] = []

    def work(seed: int) -> None:
        for step in range(40):
            image = picture(4 + (seed + step) % 5, 6)
            (output,) = session.run({"": image})
            if not np.allclose(output, normalised(image, IMAGENET), atol=1e-5):
                wrong.append(f"thread {seed}, step {step}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_large_graph_is_not_compiled_again_for_every_shape(opened: Opener) -> None:
    weights = np.ones((3000, 12000), np.float32)
    constant = helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)
    session = opened((helper.make_node("MatMul", ["x", "w"], ["y"]),), {"x": ("n", 3000)}, constants=[constant])
    rows = np.ones((2, 3000), np.float32)
    session.run({"x": rows})
    before = resident_bytes()
    for _ in range(6):
        (output,) = session.run({"x": rows})
    assert output[1, 7] == 3000
    time.sleep(1.5)  # what is compiled, is compiled in the background
    assert resident_bytes() - before < weights.nbytes / 2


def of_openvino(opened: Opener, **given: Any) -> Session:
    """Two convolutions with much between them."""
    wide, narrow = np.full((32, 3, 3, 3), 0.01, np.float32), np.full((3, 32, 3, 3), 0.01, np.float32)
    weights = [
        helper.make_tensor(name, TensorProto.FLOAT, array.shape, array.tobytes(), raw=True)
        for name, array in (("wide", wide), ("narrow", narrow))
    ]
    nodes = (
        helper.make_node("Conv", ["x", "wide"], ["between"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["between"], ["positive"]),
        helper.make_node("Conv", ["positive", "narrow"], ["y"], pads=[1, 1, 1, 1]),
    )
    session = opened(nodes, FREE, constants=weights, compute=Compute(precision="f32", threads=2, streams=2, **given))
    if "openvino" not in type(session).__module__:
        pytest.skip("OpenVINO's alone")
    return session


def test_every_call_that_is_alone_has_all_threads(opened: Opener) -> None:
    session = of_openvino(opened, shapes=0)
    for _ in range(3):
        session.run({"x": np.ones((1, 3, 16, 16), np.float32)})
    lanes = session._lanes  # type: ignore[attr-defined]
    assert (lanes.lone._runs, lanes.many._runs) == (3, 0)


def test_shapes_that_come_no_more_give_their_memory_back_and_answer_alike_when_they_do(opened: Opener) -> None:
    session = of_openvino(opened, shapes=2)
    large, small = (np.random.default_rng(3).random((1, 3, edge, edge), np.float32) for edge in (1024, 16))
    for _ in range(5):
        (before,) = session.run({"x": large})
    time.sleep(1.0)  # its own compile
    session.run({"x": large})
    held = resident_bytes()
    for _ in range(300):
        session.run({"x": small})
    time.sleep(0.5)
    assert resident_bytes() < held - (150 << 20)
    (after,) = session.run({"x": large})
    assert np.allclose(before, after, atol=1e-5)


def test_a_shape_whose_own_compile_found_no_memory_keeps_no_other_shape_from_its_own(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = of_openvino(opened, shapes=1)
    openvino = importlib.import_module("openvino")
    compile_model, tried = openvino.Core.compile_model, list[int]()

    def short_of_memory(core: Any, graph: Any, *given: Any) -> Any:
        tried.append(graph.inputs[0].shape[3])
        if tried[-1] == 24:
            raise MemoryError
        return compile_model(core, graph, *given)

    monkeypatch.setattr(openvino.Core, "compile_model", short_of_memory)
    for edge in (24, 16, 24):
        image = np.ones((1, 3, edge, edge), np.float32)
        for _ in range(12):
            (output,) = session.run({"x": image})
            assert output.shape == image.shape
        time.sleep(0.5)
    assert tried.count(24) == 1, "it is not tried again and again"
    assert 16 in tried


def test_no_page_of_a_compiled_graphs_file_stays_in_memory(opened: Opener, tmp_path: Path) -> None:
    if not Path("/proc/self/smaps").exists():
        pytest.skip("Linux tells, others do not")
    for _ in range(2):
        session = of_openvino(opened, cache_dir=str(tmp_path), hasty=True)
        image = np.ones((1, 3, 8, 8), np.float32)
        (output,) = session.run({"x": image})
    time.sleep(1.0)
    lines = Path("/proc/self/smaps").read_text().splitlines()
    files = [number for number, line in enumerate(lines) if line.endswith(".blob") and str(tmp_path) in line]
    assert files
    assert {line for number in files for line in lines[number : number + 8] if line.startswith("Rss:")} == {
        "Rss:                   0 kB"
    }
    assert np.array_equal(session.run({"x": image})[0], output)


def test_a_run_that_finds_no_memory_says_so_and_blames_no_shape(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = of_openvino(opened)

    def short_of_memory(*given: Any) -> Any:
        raise RuntimeError("Exception from src/plugins/intel_cpu/src/node.cpp:823:\n[CPU] Convolution can't alloc")

    monkeypatch.setattr(importlib.import_module("openvino").CompiledModel, "create_infer_request", short_of_memory)
    with pytest.raises(Overloaded, match="no more memory"):
        session.run({"x": np.ones((1, 3, 8, 8), np.float32)})


@pytest.mark.parametrize("callers", [1, 4])
def test_a_picture_on_which_a_graph_fails_fails_alone(opened: Opener, callers: int) -> None:
    """OpenVINO goes on to fail at the shape that came before, until another one comes: a camera has but one."""
    kernel = np.full((8, 3, 16, 16), 0.01, np.float32)
    weights = [helper.make_tensor("w", TensorProto.FLOAT, kernel.shape, kernel.tobytes(), raw=True)]
    nodes = (
        helper.make_node("Conv", ["x", "w"], ["patches"], strides=[16, 16]),
        helper.make_node("GlobalAveragePool", ["patches"], ["y"]),
    )
    session = opened(nodes, FREE, constants=weights, compute=Compute(precision="f32", threads=2, streams=2, shapes=0))
    sound, ribbon = np.ones((1, 3, 64, 80), np.float32), np.ones((1, 3, 1, 160), np.float32)
    with ThreadPoolExecutor(callers) as pool:
        for _ in range(4):
            assert all(output[0].shape == (1, 8, 1, 1) for output in pool.map(session.run, [{"x": sound}] * 8))
            for _ in range(3):
                with pytest.raises(RunFailed, match=r"\(1, 3, 1, 160\)"):
                    session.run({"x": ribbon})


def test_a_wrong_shape_is_refused_with_what_was_expected(opened: Opener) -> None:
    session = opened(IDENTITY, {"x": (1, 3, 4, 4)})
    with pytest.raises(RunFailed, match=r"(?s)toy.*4.*8"):
        session.run({"x": np.zeros((1, 3, 8, 8), np.float32)})
    session.run({"x": np.zeros((1, 3, 4, 4), np.float32)})


@pytest.mark.parametrize("shape", [("n", 1, "h", "w"), ("n", 1, 64, 64), ("n", 64, 64), (1, 64, 64, 4)], ids=str)
def test_a_graph_that_takes_no_pictures_of_three_channels_is_refused_when_it_is_opened(
    opened: Opener, shape: Sequence[int | str]
) -> None:
    with pytest.raises(UnsupportedModel, match=r"no image input|not a picture of three channels"):
        opened(IDENTITY, {"x": shape}, {"": IMAGENET})


def test_a_missing_or_unknown_input_is_refused_by_name(opened: Opener) -> None:
    session = opened(IDENTITY, FREE)
    with pytest.raises(RunFailed, match="'x'"):
        session.run({})
    with pytest.raises(RunFailed, match="zebra"):
        session.run({"zebra": np.zeros((1, 3, 4, 4), np.float32)})


def test_a_closed_session_refuses(opened: Opener) -> None:
    session = opened(IDENTITY, FREE)
    session.close()
    with pytest.raises(RunFailed, match="closed"):
        session.run({"x": np.zeros((1, 3, 4, 4), np.float32)})


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("content", [b"", b"not a graph at all", bytes(1000)], ids=["empty", "text", "zeros"])
def test_damaged_files_are_told_apart_without_a_path(name: str, content: bytes, tmp_path: Path) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    card = Card(name="broken", task="classify", family="none", runtime=name, files=(str(path),))
    with pytest.raises((CorruptFiles, UnsupportedModel)) as raised:
        runtimes.find(name)(card, {}, HALF)
    assert "broken" in raised.value.message
    assert str(tmp_path) not in raised.value.message


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("domain", ["", "org.example"])
def test_operations_that_a_runtime_does_not_know_are_named(name: str, domain: str, tmp_path: Path) -> None:
    """ONNX Runtime's were taken for damaged files."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], domain=domain)]
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [1, 3, 4, 4]) for end in "xy"]
    domains = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    graph = helper.make_graph(nodes, "odd", ends[:1], ends[1:])
    save(helper.make_model(graph, opset_imports=domains, ir_version=8), tmp_path / "odd.onnx")
    card = Card(name="odd", task="classify", family="none", runtime=name, files=(str(tmp_path / "odd.onnx"),))
    wanted = r"org\.example\.Frobnicate" if domain else "Frobnicate"
    with pytest.raises(UnsupportedModel, match=rf"(cannot read|does not have): {wanted}\b.*\. Export it again"):
        runtimes.find(name)(card, {}, HALF)


def test_graphs_of_a_later_onnx_than_the_runtime_knows_are_not_called_damaged(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [1, 3, 4, 4]) for end in "xy"]
    graph = helper.make_graph(IDENTITY, "late", ends[:1], ends[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 99)], ir_version=8), tmp_path / "late.onnx")
    card = Card(
        name="late", task="classify", family="none", runtime="onnxruntime", files=(str(tmp_path / "late.onnx"),)
    )
    with pytest.raises(UnsupportedModel, match="'late' uses operations that this ONNX Runtime does not have"):
        runtimes.find("onnxruntime")(card, {}, HALF)


def test_a_graph_of_two_pictures_does_not_take_one_for_the_other(opened: Opener) -> None:
    nodes = (helper.make_node("Add", ["a", "b"], ["y"]),)
    with pytest.raises(UnsupportedModel, match="no image input"):
        opened(nodes, {"a": (1, 3, 4, 4), "b": (1, 3, 4, 4)}, {"": IMAGENET})


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("kept", [True, False])
def test_weights_behind_links_are_read_as_the_hubs_cache_has_them(name: str, kept: bool, tmp_path: Path) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    weight = np.random.default_rng(0).normal(size=(64, 3, 32, 32)).astype(np.float32)
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 32, 32)),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 64, 1, 1)),
    ]
    constant = helper.make_tensor("w", TensorProto.FLOAT, weight.shape, weight.tobytes(), raw=True)
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [constant])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    save(model, blobs / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    for number, file in enumerate(("model.onnx", "model.onnx_data")):
        (blobs / file).rename(blobs / f"{number}")
        (snapshot / file).symlink_to(f"../../blobs/{number}")
    before = sorted(tmp_path.rglob("*"))
    files = (str(snapshot / "model.onnx"), str(snapshot / "model.onnx_data"))
    card = Card(name="toy", task="classify", family="none", runtime=name, files=files)
    picture = np.random.default_rng(1).normal(size=(1, 3, 32, 32)).astype(np.float32)
    for _ in range(2):
        compute = Compute(precision="f32", cache_dir=str(tmp_path / "cache") if kept else None)
        session = runtimes.find(name)(card, {}, compute)
        answer = session.run({"": picture})[0].reshape(-1)
        session.close()
        np.testing.assert_allclose(answer, (weight * picture).sum(axis=(1, 2, 3)), rtol=1e-3, atol=1e-3)
    assert [path for path in sorted(tmp_path.rglob("*")) if "cache" not in path.parts] == before
    assert not list(tmp_path.rglob("graph-*"))


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_missing_files_are_told(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    card = Card(name="gone", task="classify", family="none", runtime=name, files=(str(tmp_path / "gone.onnx"),))
    with pytest.raises(CorruptFiles, match="gone"):
        runtimes.find(name)(card, {}, HALF)


def test_pieces_of_one_tensor_may_be_gathered_by_the_same_rows(opened: Opener) -> None:
    """As models do that choose their objects themselves; OpenVINO 2026.4 alone refuses such a graph."""
    edges = [0, 4, 12, 20]
    constants = [
        helper.make_tensor("last", TensorProto.INT64, [1], [-1]),
        helper.make_tensor("count", TensorProto.INT64, [1], [7]),
    ]
    nodes = [
        helper.make_node("Transpose", ["x"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("ReduceMax", ["piece1"], ["best"], axes=[-1], keepdims=0),
        helper.make_node("TopK", ["best", "count"], ["scores", "places"], axis=1),
        helper.make_node("Unsqueeze", ["places", "last"], ["columns"]),
        helper.make_node("Concat", ["gathered0", "gathered1", "gathered2"], ["y"], axis=2),
    ]
    for place, (start, stop) in enumerate(itertools.pairwise(edges)):
        constants += [
            helper.make_tensor(f"start{place}", TensorProto.INT64, [1], [start]),
            helper.make_tensor(f"stop{place}", TensorProto.INT64, [1], [stop]),
            helper.make_tensor(f"shape{place}", TensorProto.INT64, [3], [1, 7, stop - start]),
        ]
        cut = helper.make_node("Slice", ["rows", f"start{place}", f"stop{place}", "last"], [f"piece{place}"])
        nodes.insert(1 + place, cut)
        nodes[-1:-1] = [
            helper.make_node("Expand", ["columns", f"shape{place}"], [f"index{place}"]),
            helper.make_node("GatherElements", [f"piece{place}", f"index{place}"], [f"gathered{place}"], axis=1),
        ]
    x = np.random.default_rng(0).standard_normal((1, 20, 50)).astype(np.float32)
    [found] = opened(nodes, {"x": (1, 20, 50)}, constants=constants).run({"x": x})
    rows = x[0].T
    best = np.argsort(-rows[:, 4:12].max(axis=1))[:7]
    np.testing.assert_array_equal(found[0], rows[best])


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
def test_onnx_runtime_notes_nothing_down_for_its_maker(tmp_path: Path) -> None:
    """It keeps a number for this machine and what it has to tell in the user's cache, from where it sends them."""
    program = "from saccade.runtimes import onnxruntime; onnxruntime.FURNISH()"
    # A variable that CI sets would keep it silent, too.
    bare = {"PATH": os.defpath, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], env=bare, check=True, timeout=120)
    assert not list(tmp_path.rglob("*"))
