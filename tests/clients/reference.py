"""The Ultralytics package in an environment of its own: the program that reads checkpoints, and a peer to measure."""

from __future__ import annotations

from pathlib import Path

from .environments import environment

TORCHVISION = '''
"""Only what ultralytics asks of torchvision: non-maximum suppression."""
__version__ = "0.28.0"
from . import ops
'''
OPS = '''
import torch


def nms(boxes, scores, iou_threshold):
    """Indices of the kept boxes, best first; a box goes when it overlaps a kept one by more than the threshold."""
    order = torch.argsort(scores, descending=True, stable=True)
    b = boxes[order].numpy()
    areas = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    import numpy as np

    alive = np.ones(len(b), bool)
    kept = []
    for i in range(len(b)):
        if not alive[i]:
            continue
        kept.append(i)
        rest = np.flatnonzero(alive[i + 1 :]) + i + 1
        w = np.clip(np.minimum(b[i, 2], b[rest, 2]) - np.maximum(b[i, 0], b[rest, 0]), 0, None)
        h = np.clip(np.minimum(b[i, 3], b[rest, 3]) - np.maximum(b[i, 1], b[rest, 1]), 0, None)
        inter = w * h
        alive[rest[inter / (areas[i] + areas[rest] - inter) > iou_threshold]] = False
    return order[torch.as_tensor(kept, dtype=torch.long)]
'''


def ultralytics() -> Path:
    """The interpreter. The torchvision of the index does not load beside this torch, so a stub stands in for it."""
    return environment(
        "ultralytics",
        "torch==2.13.0",
        "numpy",
        "opencv-python-headless",
        "pillow",
        "pyyaml",
        "requests",
        "psutil",
        "polars",
        "matplotlib",
        "scipy",
        "onnx",
        "onnxruntime==1.31.1",
        alone=("ultralytics==8.4.190", "ultralytics-thop"),
        modules={
            "torchvision/__init__.py": TORCHVISION,
            "torchvision/ops/__init__.py": OPS,
            "torchvision-0.28.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n",
        },
    )
