"""The naive peer: FastAPI around ``ultralytics`` predict. Runs only in an environment of its own (AGPL-3.0)."""

import os

import cv2
import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, Request
from ultralytics import YOLO

app = FastAPI()
model = YOLO(os.environ["BENCH_MODEL"], task="detect")
if "BENCH_THREADS" in os.environ:
    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))


@app.post("/")
async def root(request: Request) -> dict:
    image = cv2.imdecode(np.frombuffer(await request.body(), np.uint8), cv2.IMREAD_COLOR)
    result = model.predict(image, conf=0.25, iou=0.45, verbose=False)[0]
    return {"images": [{"results": result.summary(), "shape": list(result.orig_shape)}]}


if __name__ == "__main__":
    uvicorn.run(
        "serve_ultralytics:app",
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        workers=int(os.environ.get("BENCH_WORKERS", "1")),
        log_level="error",
    )
