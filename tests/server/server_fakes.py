"""A tiny dialect, engine and library, and servers around them: in this process, or as a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from saccade.call import Answer, Call, Clip
from saccade.card import Card
from saccade.dialects.dialect import Ask, Incoming, Outgoing, Route, status_of
from saccade.errors import BadInput, Error, QuotaSpent, RunFailed, UnknownModel
from saccade.meter import Timings
from saccade.results import Labels


class PlainDialect:
    """Says what it was asked; ``/say/{model}`` predicts, ``/list`` describes, ``/both`` is shared."""

    def __init__(self, name: str = "plain", claim: bytes = b"") -> None:
        self.name = name
        self.claim = claim
        self.routes = (
            Route(("POST",), f"/{name}/{{model:path}}"),
            Route(("GET",), f"/{name}s", "describe"),
            Route(("POST",), "/both"),
        )

    def claims(self, incoming: Incoming) -> bool:
        return incoming.body.startswith(self.claim)

    def parse(self, incoming: Incoming, desk: Any) -> Ask:
        if incoming.body == b"unreadable":
            raise BadInput("This is no image.")
        if incoming.body == b"bug":
            raise KeyError("secret text of a bug")
        if incoming.body == b"short":
            raise OSError(24, "Too many open files", "/secret/path")
        if incoming.body.startswith(b"errno"):
            raise OSError(int(incoming.body[5:]), "No", "/secret/path")
        if incoming.body == b"threads":
            raise RuntimeError("can't start new thread")
        name = incoming.match.get("model") or desk.default_model()
        desk.card(name)
        body, url = incoming.body, None
        if body.startswith(b"http"):
            body, url = b"", body.decode()
        clip = Clip() if body.startswith(b"video") else None
        count = int(dict(incoming.query).get("count", "1"))
        call = Call(model=name, media=body, media_url=url, clip=clip, use_cache=True)
        return Ask(calls=(call,) * count, streamed="stream" in dict(incoming.query))

    def render(self, ask: Ask, answers: Sequence[Answer]) -> Outgoing:
        said = [_said(answer) for answer in answers]
        return Outgoing(body=json.dumps({"from": self.name, "said": said}).encode())

    async def render_stream(self, ask: Ask, answers: AsyncIterator[Answer]) -> AsyncIterator[bytes]:
        async for answer in answers:
            yield json.dumps(_said(answer)).encode() + b"\n"

    def refuse(self, error: Error, incoming: Incoming) -> Outgoing:
        headers = (("retry-after", "7"),) if isinstance(error, QuotaSpent) else ()
        body = json.dumps({self.name: error.message}).encode()
        return Outgoing(status=status_of(error), body=body, headers=(*headers, ("x-error-message", error.message)))

    def describe(self, incoming: Incoming, desk: Any) -> Outgoing:
        return Outgoing(body=json.dumps([card.name for card in desk.cards()]).encode())


def _said(answer: Answer) -> str:
    assert isinstance(answer.result, Labels)
    return answer.result.names[0]


@dataclass
class EchoEngine:
    """Answers with the media's text; words in it make it slow, wrong or broken."""

    cancelled: int = 0
    served: int = 0
    last: Call | None = None

    async def start(self) -> None: ...

    async def predict(self, call: Call) -> Answer:
        self.last = call
        word = call.media[:12]
        try:
            if word.startswith(b"sleep"):
                await asyncio.sleep(float(call.media[5:]))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if word.startswith(b"hold"):  # the event loop, as nothing should
            time.sleep(float(call.media[4:]))
        if word == b"fail late":
            await asyncio.sleep(0.5)
        if word.startswith(b"fail"):
            raise RunFailed("The graph failed.")
        if word == b"broken":
            raise ZeroDivisionError("secret text of a bug")
        self.served += 1
        if word.startswith(b"big"):
            return answer("x" * int(call.media[3:]), call.model)
        return answer(call.media[:40].decode("latin-1"), call.model)

    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        try:
            frames = {b"endless": 10**9, b"long": 1000, b"empty": 0}
            for index in range(next((count for word, count in frames.items() if word in call.media), 3)):
                await asyncio.sleep(0 if b"endless" in call.media else 1 if b"slow" in call.media else 0.001)
                if b"breaks" in call.media and index == 2:
                    raise RunFailed("The graph failed.")
                if b"bug" in call.media and index == 2:
                    raise ZeroDivisionError("secret text of a bug")
                self.served += 1
                yield answer(f"frame {index}" + " " * (100_000 if b"large" in call.media else 0), call.model)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    async def load(self, ref: str) -> None:
        if ref == "slow":
            await asyncio.sleep(1)

    def state(self, ref: str) -> str:
        return "warm"

    def info(self) -> dict[str, Any]:
        return {"device": "cpu", "threads": 2, "models": [{"name": "one", "queued": 1, "in_flight": 2, "cancelled": 3}]}

    async def drain(self) -> None: ...

    async def close(self) -> None: ...


def answer(text: str, model: str) -> Answer:
    result = Labels(np.zeros(1, np.int32), np.ones(1, np.float32), (text,))
    return Answer(result=result, image_hw=(1, 1), model=model, timings=Timings(inference_ms=1.5))


class Shelf:
    """Two models here, one that can be fetched."""

    def __init__(self) -> None:
        self.here = {name: Card(name=name, task="classify", family="x", runtime="y") for name in ("one", "two", "slow")}
        self.fetches = 0

    def card(self, ref: str, *, fetch: bool = False) -> Card:
        if ref == "far" and fetch and ref not in self.here:
            time.sleep(0.05)
            self.fetches += 1
            self.here[ref] = Card(name=ref, task="classify", family="x", runtime="y")
        if ref == "endless" and fetch:
            time.sleep(30)
        if ref not in self.here:
            missing = UnknownModel(f"There is no model '{ref}'.")
            missing.offered = ref if ref == "far" else ""
            raise missing
        return self.here[ref]

    def cards(self) -> list[Card]:
        return list(self.here.values())


class Process:
    """``saccade serve`` with the fakes, as a process of its own."""

    def __init__(self, home: Path, most_files: int = 0, **settings: Any) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SACCADE_")}
        given = json.dumps({"port": 0, "home": str(home), **settings})
        command = [sys.executable, __file__, given]
        if most_files:
            command = ["sh", "-c", f'ulimit -n {most_files} && exec "$@"', "sh", *command]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
        self.url = ""

    def ready(self) -> str:
        """Waits for the ready line and returns the address."""
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        assert line.startswith("saccade ready on http://"), line + self.end()[2]
        self.url = line.split()[-1]
        return self.url

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def end(self, wait_s: float = 20) -> tuple[int, str, str]:
        """Exit code, the rest of stdout, stderr."""
        try:
            out, err = self.child.communicate(timeout=wait_s)
        except subprocess.TimeoutExpired:
            self.child.kill()
            raise
        return self.child.returncode, out, err


@contextlib.contextmanager
def running(home: Path, **settings: Any) -> Iterator[Process]:
    """A ready server process, stopped at the end."""
    process = Process(home, **settings)
    try:
        process.ready()
        yield process
    finally:
        if process.child.poll() is None:
            process.signal(signal.SIGTERM)
        process.end()


def client(app: Any) -> httpx.AsyncClient:
    """Talks to an app in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


def main() -> None:
    from saccade.errors import BadSettings
    from saccade.server import run
    from saccade.server.settings import load

    try:
        settings = load(json.loads(sys.argv[1]), {})
        run.serve(settings, library=Shelf(), engine=EchoEngine(), dialects=[PlainDialect()])  # type: ignore[arg-type]
    except Error as error:
        sys.stderr.write(error.message + "\n")
        sys.exit(2 if isinstance(error, BadSettings) else 1)


if __name__ == "__main__":
    main()
