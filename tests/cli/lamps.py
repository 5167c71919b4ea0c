"""Models that cost nothing, and photos for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from click.testing import Result
from onnx import TensorProto, helper
from PIL import Image

SIDE = 64
NAMES = {0: "lamp", 1: "window"}
Typed = Callable[..., Result]


def photo(path: Path, brightness: int, size: tuple[int, int] = (160, 120)) -> Path:
    """A grey picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), brightness, np.uint8)).save(path)
    return path


def detector(path: Path, dynamic: bool = False) -> Path:
    """A graph with NMS inside: one box of class 0 over the middle half, scored with the picture's mean brightness."""
    sides: list[str | int] = ["height", "width"] if dynamic else [SIDE, SIDE]
    row = np.zeros((1, 300, 6), np.float32)
    row[0, 0, :4] = SIDE / 4, SIDE / 4, SIDE * 3 / 4, SIDE * 3 / 4
    score = np.zeros_like(row)
    score[0, 0, 4] = 1
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["score", "mean"], ["scored"]),
        helper.make_node("Add", ["row", "scored"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "lamps",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *sides])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 300, 6])],
        [constant("row", row), constant("score", score)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    facts = {"task": "detect", "names": str(NAMES), "stride": "32", "imgsz": f"[{SIDE}, {SIDE}]", "license": "MIT"}
    helper.set_model_props(model, facts)
    onnx.save(model, path)
    return path


def mapper(path: Path, task: str) -> Path:
    """A graph of the mean of red, green and blue at each pixel: as "depth" 0 … 1, as "semantic" whether above 0.5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    depth = task == "depth"
    nodes = [helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1], keepdims=int(depth))]
    last = helper.make_node("Identity", ["mean"], ["output0"])
    if not depth:
        nodes.append(helper.make_node("Greater", ["mean", "half"], ["above"]))
        last = helper.make_node("Cast", ["above"], ["output0"], to=TensorProto.UINT8)
    kind, shape = (TensorProto.FLOAT, [1, 1, SIDE, SIDE]) if depth else (TensorProto.UINT8, [1, SIDE, SIDE])
    graph = helper.make_graph(
        [*nodes, last],
        task,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", kind, shape)],
        [] if depth else [constant("half", np.array(0.5, np.float32))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    facts = {"task": task, "names": str(NAMES), "stride": "32", "imgsz": f"[{SIDE}, {SIDE}]", "license": "MIT"}
    helper.set_model_props(model, facts)
    onnx.save(model, path)
    return path


def constant(name: str, values: np.ndarray) -> onnx.TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT, values.shape, values.tobytes(), raw=True)
