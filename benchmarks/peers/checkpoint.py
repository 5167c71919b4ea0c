"""A checkpoint of the weights that a YOLO graph holds: ``checkpoint.py GRAPH.onnx TARGET.pt [yolov8n.yaml]``.

Exporting joins each convolution with the normalisation behind it, so the joined form of the architecture takes the
graph's weights by name. Runs only in an environment of its own (AGPL-3.0).
"""

import ast
import sys

import onnx
import torch
from onnx import numpy_helper
from ultralytics.nn.tasks import DetectionModel, SegmentationModel


def main(graph: str, target: str, architecture: str = "yolov8n.yaml") -> None:
    """The architecture is one of ultralytics' own, for detection or (``…-seg.yaml``) for segmentation."""
    exported = onnx.load(graph)
    facts = {entry.key: entry.value for entry in exported.metadata_props}
    names = ast.literal_eval(facts["names"])
    weights = {held.name: torch.from_numpy(numpy_helper.to_array(held).copy()) for held in exported.graph.initializer}
    segments = architecture.endswith("-seg.yaml")
    kind = SegmentationModel if segments else DetectionModel
    model = kind(architecture, nc=len(names), verbose=False).eval().fuse(verbose=False)
    wanted = model.state_dict()
    if absent := sorted(set(wanted) - set(weights)):
        raise SystemExit(f"{graph} is no {architecture.removesuffix('.yaml')}: it has no {absent[0]}.")
    model.load_state_dict({name: weights[name].reshape(value.shape) for name, value in wanted.items()})
    model.names = names
    task = "segment" if segments else "detect"
    torch.save({"model": model, "train_args": {"task": task, "imgsz": 640}, "epoch": -1}, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
