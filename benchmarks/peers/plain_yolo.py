"""JPEG bytes → YOLO detections in plain numpy and OpenCV, for peers that bring a server but no model code.

Square letterbox, class-wise non-maximum suppression by OpenCV, the five fields of every box: what a competent user
would write around a session of ONNX Runtime or OpenVINO.
"""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np

SIDE = 640
cv2.setNumThreads(1)


def prepare(data: bytes) -> tuple[Any, tuple[float, float, float, int, int]]:
    """The network's input (1, 3, 640, 640) and what leads back to the photo."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    height, width = image.shape[:2]
    gain = min(SIDE / height, SIDE / width)
    new_w, new_h = round(width * gain), round(height * gain)
    left, top = (SIDE - new_w) // 2, (SIDE - new_h) // 2
    canvas = np.full((SIDE, SIDE, 3), 114, np.uint8)
    canvas[top : top + new_h, left : left + new_w] = cv2.resize(image, (new_w, new_h))
    tensor = canvas[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255
    return np.ascontiguousarray(tensor), (gain, left, top, height, width)


def read(output: Any, frame: tuple[float, float, float, int, int], conf: float = 0.25, iou: float = 0.45) -> list[Any]:
    """Detections as a list of dictionaries; ``output`` is (84, 8400)."""
    gain, left, top, height, width = frame
    scores = output[4:].max(0)
    chosen = np.flatnonzero(scores > conf)
    boxes, scores, classes = output[:4, chosen].T, scores[chosen], output[4:, chosen].argmax(0)
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], 1)
    kept = cv2.dnn.NMSBoxesBatched(corners.tolist(), scores.tolist(), classes.tolist(), conf, iou)
    found = []
    for i in np.asarray(kept, int).ravel():
        x, y, w, h = corners[i]
        box = [(x - left) / gain, (y - top) / gain, (x + w - left) / gain, (y + h - top) / gain]
        limit = (width, height, width, height)
        box = [float(min(max(value, 0), most)) for value, most in zip(box, limit, strict=True)]
        found.append({"class": int(classes[i]), "confidence": float(scores[i]), "box": box})
    return found


def onnxruntime_session(path: str, threads: int) -> Any:
    """A callable tensor → output (84, 8400)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tensor: session.run(None, {name: tensor})[0]


def openvino_session(path: str, threads: int, precision: str) -> Any:
    """The same through OpenVINO, with the settings that saccade uses."""
    import openvino

    hints = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    if precision == "f32":
        hints["INFERENCE_PRECISION_HINT"] = "f32"
    request = openvino.Core().compile_model(path, "CPU", hints).create_infer_request()

    def run(tensor: Any) -> Any:
        request.infer([tensor])
        return request.get_output_tensor(0).data.copy()

    return run


def session() -> Any:
    """What the environment variables of the benchmark ask for."""
    path, threads = os.environ["BENCH_MODEL"], int(os.environ.get("BENCH_THREADS", "1"))
    if os.environ.get("BENCH_ENGINE", "onnxruntime") == "openvino":
        return openvino_session(path, threads, os.environ.get("BENCH_PRECISION", "auto"))
    return onnxruntime_session(path, threads)
