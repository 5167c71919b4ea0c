"""Starts the servers that the HTTP benchmarks talk to: ``python -m benchmarks.engine.server NAME PORT``."""

from __future__ import annotations

import sys
import tempfile
from typing import Any

from starlette.types import Receive, Scope, Send
from tests.engine.shelf import Shelf

ANSWER = b'[{"label":"1","score":0.39,"box":{"xmin":0,"ymin":0,"xmax":8,"ymax":8}}]'


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """The least that an ASGI application can do with a posted image: read it whole and answer."""
    if scope["type"] != "http":
        return
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


class Cards(Shelf):
    """The simulated models as the server's library."""

    def card(self, ref: str, *, fetch: bool = False, progress: object = None) -> Any:
        return super().card(ref)

    def cards(self) -> list[Any]:
        return list(self.cards_by_name.values())

    def offers(self) -> list[Any]:
        return []


def main() -> None:
    name, port = sys.argv[1], int(sys.argv[2])
    if name == "bare":
        import uvicorn

        uvicorn.run(bare, port=port, log_level="warning", access_log=False, loop="uvloop", http="httptools")
        return
    from saccade.server import run
    from saccade.server.settings import Settings

    with tempfile.TemporaryDirectory() as home:
        settings = Settings(
            home=home,
            port=port,
            no_auth=True,
            access_log=False,
            isolate=name != "in-process",
            threads=2,
            fronts=2 if name == "fronts" else 1,
        )
        run.serve(settings, library=Cards(m={"batchable": False}))


if __name__ == "__main__":
    main()
