"""The access log: one short line per request, written in bunches; it never holds a key, a query or a body."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Protocol

from saccade.server.outlet import OUTLET

FLUSH_S = 0.2
MOST_CHARACTERS = 200

SECRET = re.compile(
    r"(?i)(?<![a-z0-9])(?:(sac_(?=[0-9a-f]{8})|hf_(?=[a-z0-9]{20})|bearer +|(?:key|token) *[=:] *)[^\s&;,'\"/?#]+"
    r"|[0-9a-f]{42}(?=_))"
)
"""What may be a key, ours or another service's (HUB's stands before a model's id), wherever a caller wrote it."""


class Sink(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


class Journal:
    """Collects lines and writes them together, because a write per request would cost more than all else here."""

    def __init__(self, enabled: bool = True, stream: Sink | None = None) -> None:
        self.enabled = enabled
        self._stream = stream or OUTLET
        self._lines: list[str] = []

    def note(
        self,
        method: str,
        path: str,
        status: int,
        seconds: float,
        size: int,
        request_id: str,
        *,
        model: str = "",
        caller: str = "",
        error: str = "",
    ) -> None:
        """One finished request. ``path`` is without its query, which may hold a key."""
        if not self.enabled:
            return
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        parts = [
            stamp,
            method,
            _plain(keyless(path)),
            str(status),
            f"{seconds * 1e3:.1f}ms",
            f"{size}B",
            f"id={request_id}",
        ]
        parts += [
            f"{name}={_plain(text)}" for name, text in (("model", model), ("key", caller), ("error", error)) if text
        ]
        if not self._lines:
            self._later()
        self._lines.append(" ".join(parts))

    def add(self, lines: str) -> None:
        """Lines that another process has collected."""
        if not self._lines:
            self._later()
        self._lines.append(lines.rstrip("\n"))

    def flush(self) -> None:
        """Writes what was collected."""
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()

    def _later(self) -> None:
        try:
            asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        except RuntimeError:
            return


def keyless(text: str) -> str:
    """A caller's text without the keys in it: people send them in paths, names and options, and logs are passed on."""
    return SECRET.sub(r"\1…", text)


def _plain(text: str) -> str:
    """Nothing that could fake a second line or a second field."""
    kept = text[:MOST_CHARACTERS]
    return (
        kept if kept.isprintable() and " " not in kept else kept.encode("unicode_escape").decode().replace(" ", "\\x20")
    )
