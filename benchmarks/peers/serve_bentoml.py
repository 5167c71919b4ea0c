"""BentoML around a plain YOLO session, ``BENCH_WORKERS`` workers."""

import os
from pathlib import Path

import bentoml
from plain_yolo import prepare, read, session


@bentoml.service(
    workers=int(os.environ.get("BENCH_WORKERS", "1")), traffic={"timeout": 60}, logging={"access": {"enabled": False}}
)
class Yolo:
    def __init__(self) -> None:
        self.session = session()

    @bentoml.api
    def predict(self, photo: Path) -> list:
        tensor, frame = prepare(photo.read_bytes())
        return read(self.session(tensor)[0], frame)
