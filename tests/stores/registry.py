"""A package registry on this machine, for tests: a simple index and an npm registry, honest, forgetful or lying."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Registry:
    """What it serves and how it behaves; ``asked`` lists the ranges that were asked of archives."""

    def __init__(self) -> None:
        self.archives: dict[str, bytes] = {}
        self.ranges = True
        self.breaks_after: list[int] = []
        """For each of the next answers with an archive's bytes: break the line after so many."""
        self.asked: list[tuple[str, str]] = []
        self.sent = 0
        self.down = False
        self.url = ""

    def handler(registry) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words: object) -> None: ...

            def do_GET(self) -> None:
                if registry.down:
                    self.answer(503, b"down")
                elif self.path.startswith("/simple/toy-models/"):
                    links = "".join(f'<a href="/files/{name}">{name}</a>' for name in registry.archives)
                    self.answer(200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")
                elif self.path == "/npm/toy-models":
                    dist = {"tarball": f"{registry.url}/files/toy-models-1.0.0.tgz"}
                    self.answer(200, json.dumps({"versions": {"1.0.0": {"dist": dist}}}).encode(), "application/json")
                elif (body := registry.archives.get(self.path.removeprefix("/files/"))) is not None:
                    self.archive(body)
                else:
                    self.answer(404, b"nothing here")

            def archive(self, body: bytes) -> None:
                span = self.headers.get("Range", "")
                registry.asked.append((self.path.rsplit("/", 1)[-1], span))
                if not span or not registry.ranges:
                    return self.answer(200, body)
                first, _, last = span.removeprefix("bytes=").partition("-")
                start = int(first) if first else max(0, len(body) - int(last))
                stop = int(last) + 1 if first and last else len(body)
                stop = min(stop, len(body))
                if start >= stop:
                    return self.answer(416, b"")
                return self.answer(206, body[start:stop], span=f"bytes {start}-{stop - 1}/{len(body)}")

            def answer(self, status: int, body: bytes, kind: str = "application/octet-stream", span: str = "") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if span:
                    self.send_header("Content-Range", span)
                self.end_headers()
                if len(body) > 100 and self.path.startswith("/files/") and "-" in span + "-":
                    # The list of a zip file's members is small and read first; only the rest is broken.
                    limit = registry.breaks_after.pop(0) if registry.breaks_after else None
                    if limit is not None:
                        self.wfile.write(body[:limit])
                        registry.sent += len(body[:limit])
                        self.close_connection = True
                        self.wfile.flush()
                        with contextlib.suppress(OSError):
                            self.connection.shutdown(2)
                        return
                self.wfile.write(body)
                registry.sent += len(body)

        return Handler


@contextlib.contextmanager
def running() -> Iterator[Registry]:
    registry = Registry()
    server = ThreadingHTTPServer(("127.0.0.1", 0), registry.handler())
    registry.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()


def wheel(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def sdist(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
