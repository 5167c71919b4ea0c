"""JPEG bytes → JSON with ``ultralytics`` predict, one photo a line of standard input.

Runs in an environment that has ultralytics, never in saccade's. Started by ``run.py``.
"""

import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from ultralytics import YOLO


def main(weights: str, threads: str) -> None:
    """Reads and writes the same lines as ``saccade_worker``; ``threads`` 0 leaves the library's own choice."""
    model = YOLO(weights)
    photos: dict[str, bytes] = {}
    model.predict(np.zeros((480, 640, 3), np.uint8), verbose=False)
    if threads != "0":
        torch.set_num_threads(int(threads))
    print("ready", flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        data = photos.setdefault(ask["path"], Path(ask["path"]).read_bytes())
        wall, cpu = time.perf_counter(), time.process_time()
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        result = model.predict(image, conf=ask["conf"], iou=ask["iou"], verbose=False)[0]
        predicted = time.perf_counter()
        body = result.to_json()
        done = time.perf_counter()
        told = {
            "wall_ms": (done - wall) * 1e3,
            "cpu_ms": (time.process_time() - cpu) * 1e3,
            "read_ms": result.speed["postprocess"],
            "post_ms": result.speed["postprocess"] + (done - predicted) * 1e3,
            "items": json.loads(body),
            "torch_threads": torch.get_num_threads(),
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
