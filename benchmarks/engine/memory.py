"""What a server holds with no model, with one, with two, …: each is called a few times, one after the other.

    python -m benchmarks.engine.memory NAME [NAME ...] [--models DIR] [--image FILE] [--rounds 3] [--serve FLAGS]

Told are MiB of all processes, what several share counted once (PSS), in a quiet moment. ``--serve`` hands further flags
to the server, so that ways to serve can be compared in one run; given several times, they take turns.
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
import time
from pathlib import Path

from benchmarks.engine.cold import served, told
from benchmarks.engine.drive import tell

from saccade.cli.bench import made_photo

CALLS = 20
"""Enough that both ways in which a graph is compiled have run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="+", help="a model")
    parser.add_argument("--models", help="a folder of own models")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rest", type=float, default=8.0, help="seconds between the last call and a look")
    parser.add_argument("--serve", action="append", help="further flags of 'saccade serve'")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args()
    photo = given.image.read_bytes() if given.image else made_photo()
    folder = ["--models", given.models] if given.models else []
    ways: list[str] = given.serve or [""]
    taken: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as home:
        held(given.name, folder, photo, home, 0.0)  # all is compiled, and on the disk
        for _ in range(given.rounds):
            for way in ways:
                rows = taken.setdefault(way or "as it is", {})
                for what, mib in held(given.name, [*folder, *shlex.split(way)], photo, home, given.rest).items():
                    rows.setdefault(what, []).append(mib)
    tell("memory", {way: {what: told(mib) for what, mib in rows.items()} for way, rows in taken.items()}, given.json)


def held(names: list[str], flags: list[str], photo: bytes, home: str, rest: float) -> dict[str, float]:
    """MiB of a fresh server after each model."""
    with served(flags, home) as server:
        time.sleep(rest)
        found = {"no model": server.mib()}
        for name in names:
            for _ in range(CALLS):
                server.predict(f"/models/{name}", photo)
            time.sleep(rest)
            found[f"and {name}"] = server.mib()
        return found


if __name__ == "__main__":
    main()
