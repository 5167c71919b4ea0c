"""LitServe around a plain YOLO session. ``BENCH_WORKERS`` workers, ``BENCH_BATCH`` images a batch."""

import os
from typing import Annotated

import litserve
from fastapi import Body
from plain_yolo import prepare, read, session


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.session = session()

    def decode_request(self, request: Annotated[bytes, Body()]) -> bytes:
        return request

    def predict(self, data: bytes) -> list:
        tensor, frame = prepare(data)
        return read(self.session(tensor)[0], frame)

    def encode_response(self, found: list) -> dict:
        return {"results": found}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=int(os.environ.get("BENCH_WORKERS", "1")))
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), log_level="error", generate_client_file=False)
