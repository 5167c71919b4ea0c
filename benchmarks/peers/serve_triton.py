"""Triton by way of PyTriton, around a plain YOLO session; ``BENCH_WORKERS`` instances. Photos come as BYTES."""

import json
import os

import numpy as np
from plain_yolo import prepare, read, session
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


class Yolo:
    def __init__(self) -> None:
        self.session = session()

    def __call__(self, requests: list) -> list:
        return [{"answer": self.seen(request["photo"])} for request in requests]

    def seen(self, photo: np.ndarray) -> np.ndarray:
        tensor, frame = prepare(photo.ravel()[0])
        return np.array([[json.dumps({"results": read(self.session(tensor)[0], frame)}).encode()]], dtype=object)


port = int(os.environ["BENCH_PORT"])
config = TritonConfig(http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False, log_verbose=0)
with Triton(config=config) as triton:
    triton.bind(
        model_name="yolo",
        infer_func=[Yolo() for _ in range(int(os.environ.get("BENCH_WORKERS", "1")))],
        inputs=[Tensor(name="photo", dtype=bytes, shape=(1,))],
        outputs=[Tensor(name="answer", dtype=bytes, shape=(1,))],
        config=ModelConfig(max_batch_size=1, batching=True, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        strict=False,
    )
    triton.serve()
