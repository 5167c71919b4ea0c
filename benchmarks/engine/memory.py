"""What a server holds with no model, with one, with two, …: each is called a few times, one after the other.

    python -m benchmarks.engine.memory NAME [NAME ...] [--models DIR] [--image FILE] [--rounds 3] [--serve FLAGS]

Told are MiB of all processes, what several share counted once (PSS), in a quiet moment. ``--serve`` hands further flags
to the server, so that ways to serve can be compared in one run; given several times, they take turns.
"""

from __future__ import annotations

import shlex
import tempfile
import time

from benchmarks.engine.cold import asking, chosen, served, told
from benchmarks.engine.drive import tell

CALLS = 20
"""Enough that both ways in which a graph is compiled have run."""


def main() -> None:
    parser = asking(__doc__ or "", rounds=3, rest=8.0)
    parser.add_argument("name", nargs="+", help="a model")
    given = parser.parse_args()
    photo, folder, ways = chosen(given)
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
