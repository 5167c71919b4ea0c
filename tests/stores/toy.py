"""Small model files for tests: sound ones and broken ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

COCO = {number: f"name{number}" for number in range(80)}
DETECTOR = {"task": "detect", "names": str(COCO), "stride": "32", "imgsz": "[640, 640]", "license": "AGPL-3.0 (x)"}


def onnx_file(
    path: Path,
    outputs: Sequence[Sequence[int | str]] = ((1, 84, 8400),),
    metadata: Mapping[str, str] = {},
    hw: tuple[int | str, int | str] = (640, 640),
    names: tuple[str, str] = ("images", "o"),
) -> Path:
    """A graph with an image input and these output shapes; it carries one weight."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weight = helper.make_tensor("w", TensorProto.FLOAT, [64], np.ones(64, np.float32).tobytes(), raw=True)
    picture = helper.make_tensor_value_info(names[0], TensorProto.FLOAT, [1, 3, *hw])
    answers = [names[1] + str(n or "") for n in range(len(outputs))]
    nodes = [helper.make_node("ReduceSum", [names[0]], [answer]) for answer in answers]
    results = [
        helper.make_tensor_value_info(a, TensorProto.FLOAT, list(s)) for a, s in zip(answers, outputs, strict=True)
    ]
    graph = helper.make_graph(nodes, "toy", [picture], results, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)
    return path


def hub_folder(folder: Path, architecture: str = "ViTForImageClassification") -> Path:
    """A repository with sound but tiny weights."""
    folder.mkdir(parents=True)
    config = {"architectures": [architecture], "id2label": {"0": "cat", "1": "dog"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text('{"do_resize": true}')
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    return folder
