"""The naive peer: FastAPI around ``ultralytics`` predict. Runs only in an environment of its own (AGPL-3.0)."""

import os

import cv2
import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from ultralytics import YOLO

app = FastAPI()
model = YOLO(os.environ["BENCH_MODEL"], task="detect")


@app.post("/")
async def root(request: Request) -> dict:
    image = cv2.imdecode(np.frombuffer(await request.body(), np.uint8), cv2.IMREAD_COLOR)
    result = model.predict(image, conf=0.25, iou=0.45, verbose=False)[0]
    return {"images": [{"results": result.summary(), "shape": list(result.orig_shape)}]}


uvicorn.run(app, host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), log_level="error")
