"""Mosec around a plain YOLO session."""

import os
import sys

sys.argv += ["--address", "127.0.0.1", "--port", os.environ["BENCH_PORT"], "--timeout", "60000"]

import msgspec  # noqa: E402
from mosec import Server, Worker  # noqa: E402
from plain_yolo import prepare, read, session  # noqa: E402


class Yolo(Worker):
    def __init__(self) -> None:
        self.session = session()

    def deserialize(self, data: bytes) -> bytes:
        return data

    def serialize(self, found: list) -> bytes:
        return msgspec.json.encode({"results": found})

    def forward(self, data: bytes) -> list:
        tensor, frame = prepare(data)
        return read(self.session(tensor)[0], frame)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Yolo, num=int(os.environ.get("BENCH_WORKERS", "1")))
    server.run()
