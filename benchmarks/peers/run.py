"""saccade beside its peers: the same weights, the same photos, one run, taking turns.

    python -m benchmarks.peers.run --graph yolov8n.onnx --photos FOLDER [GROUP …]

Every peer lives in an environment of its own under ``.envs``, made on first use (``--install`` makes all and ends). All
servers of a group run side by side, and one at a time is asked: in short rounds, for each number of callers every
candidate has its turn, in another order each time. Ratios are of saccade and a peer in the same round, seconds apart,
so that a slow minute of the machine meets both. A fixed number of calls is drained before the next candidate's turn.
Told are medians: answers a second, latency, CPU seconds of the server's whole process tree, its memory (PSS), failed
calls; and what the callers (on the same cores) and other work cost.

Everything is kept in ``--results`` as it is measured: after an interruption, or after ``--minutes``, the same command
goes on where it stopped, and ``--table`` prints what there is.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from benchmarks.peers import caller, environments, server, table
from benchmarks.peers.candidates import CACHE, GROUPS, Candidate, House, Missing, candidates, versions
from benchmarks.peers.results import MISSING, Level, Results, Turn

HERE = Path(__file__).resolve().parent
PHOTOS = 4
UNFINISHED = 3
"""Exit code when ``--minutes`` were over before the end."""


def main() -> None:
    """The command."""
    given = arguments()
    if given.install:
        raise SystemExit(install())
    results = Results.opened(given.results)
    if not given.table:
        finished = measure(given, results)
        print(table.whole(results))
        raise SystemExit(0 if finished else UNFINISHED)
    print(table.whole(results))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)} (default: all)")
    parser.add_argument("--graph", type=Path, help="a YOLO detection graph (.onnx) of 640 pixels")
    parser.add_argument("--checkpoint", type=Path, help="the same weights as .pt (default: made from the graph)")
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs, of which the first four are sent")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of calls")
    parser.add_argument("--only", action="append", default=[], help="only candidates whose names hold this")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no further round after so long")
    parser.add_argument("--results", type=Path, default=CACHE / "results.json")
    parser.add_argument("--table", action="store_true", help="print what was measured before")
    parser.add_argument("--install", action="store_true", help="make the environments of all peers")
    given = parser.parse_args()
    if not (given.table or given.install) and not (given.graph and given.photos):
        parser.error("--graph and --photos are needed")
    if unknown := set(given.groups) - set(GROUPS):
        parser.error(f"there is no group {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    given.groups = tuple(given.groups or GROUPS)
    return given


def install() -> int:
    """Makes all environments; returns how many could not be made."""
    failed = 0
    for file in sorted(environments.PINNED.glob("*.txt")):
        try:
            print(environments.interpreter(file.stem))
        except Missing as missing:
            failed += 1
            print(f"{file.stem}: {missing}", file=sys.stderr)
    return failed


def measure(given: argparse.Namespace, results: Results) -> bool:
    """Measures what is not in the results yet; False when the time was over before."""
    until = time.monotonic() + given.minutes * 60 if given.minutes else float("inf")
    photos = sorted(given.photos.resolve().glob("*.jpg"))[:PHOTOS]
    house = House(given.graph, given.checkpoint and given.checkpoint.resolve(), photos)
    results.head = head()
    for group in given.groups:
        todo = list(candidates(house, (group,)))
        todo = [one for one in todo if not given.only or any(word in one.name for word in given.only)]
        names = [one.name for one in todo]
        rounds = [number for number in range(given.rounds) if not results.has(group, number, names)]
        if not rounds:
            continue
        with ExitStack() as running:
            asked = [(one, started(one, [photo.read_bytes() for photo in photos], running)) for one in todo]
            for number in rounds:
                if time.monotonic() > until:
                    return False
                print(f"{group}: round {number + 1} of {given.rounds}", file=sys.stderr, flush=True)
                results.drop(group, number)
                for turn in turns(asked, number, given.share):
                    results.add(turn)
    return True


def started(candidate: Candidate, photos: list[bytes], running: ExitStack) -> Asked | str:
    """A candidate, ready to be asked; or why it is not."""
    print(f"{candidate.group}: {candidate.name}", file=sys.stderr, flush=True)
    try:
        return running.enter_context((looping if candidate.loop else serving)(candidate, photos))
    except Missing as missing:
        broken = f"{MISSING}: {missing}"
    except Exception as error:
        broken = _words(error)
    print(f"  {broken}", file=sys.stderr, flush=True)
    return broken


def turns(asked: Sequence[tuple[Candidate, Asked | str]], number: int, share: float) -> list[Turn]:
    """One round: every candidate's turn, for each number of callers one after the other; what goes wrong is told."""
    found = {one.name: Turn(one.group, number, one.name) for one, _ in asked}
    order = random.Random(number)
    for callers in sorted({callers for one, _ in asked for callers in one.calls}):
        for one, ready in order.sample(asked, len(asked)):
            turn = found[one.name]
            if isinstance(ready, str):
                turn.broken = ready
            if callers not in one.calls or turn.broken or isinstance(ready, str):
                continue
            try:
                turn.levels[callers] = ready.level(callers, max(callers, int(one.calls[callers] * share)))
                turn.memory_bytes, turn.objects = server.memory_bytes(ready.pid), ready.objects
            except Exception as error:
                turn.broken = _words(error)
    return list(found.values())


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def head() -> dict[str, str]:
    """What is needed to judge the figures."""
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE).stdout
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in facts.splitlines() if line.startswith("model name")]
    flags = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512_vnni") if flag in facts]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": f"{len(os.sched_getaffinity(0))} cores of {names[0] if names else 'an unknown processor'}",
        "flags": ", ".join(flags) or "no bf16",
        "commit": revision.strip(),
        "versions": versions(),
    }


@dataclass
class Asked:
    """A candidate that is ready: a way to have it answer so many calls, and what it found on the photos."""

    pid: int
    answered: Any
    objects: int = 0

    def level(self, callers: int, calls: int) -> Level:
        """One number of callers, with what the tree, the callers and other work spent meanwhile."""
        spent, busy = server.cpu_s(self.pid), server.machine_busy_s()
        found, self.objects = self.answered(callers, calls)
        spent, busy = server.cpu_s(self.pid) - spent, server.machine_busy_s() - busy
        cores = len(os.sched_getaffinity(0))
        count = max(1, len(found.seconds))
        return Level(
            per_second=len(found.seconds) / found.whole_s,
            p50_ms=quantile(found.seconds, 0.5),
            slowest_ms=quantile(found.seconds, 1.0),
            cpu_ms=1e3 * spent / count,
            callers_cpu_ms=1e3 * found.own_cpu_s / count,
            failed=found.failed,
            others=max(0.0, busy - spent - found.own_cpu_s) / (cores * found.whole_s),
        )


@contextmanager
def serving(candidate: Candidate, photos: list[bytes]) -> Any:
    """A server, warmed up."""
    port, log = server.free_port(), CACHE / f"{slug(candidate.group, candidate.name)}.log"
    words = [word.replace("{port}", str(port)) for word in candidate.words]
    variables = {"BENCH_PORT": str(port), **candidate.variables}
    if candidate.environment:
        variables["PYTHONPATH"] = str(HERE)
    requests = [request(candidate, port, photo) for photo in photos]

    def answered(callers: int, calls: int) -> tuple[caller.Found, int]:
        found = uvloop.run(caller.closed(port, requests, callers, calls))
        return found, sum(caller.objects(body) for body in found.bodies.values())

    with server.running([str(candidate.python()), *words], HERE, variables, log) as child:
        server.await_port(child, port, log)
        await_answer(answered, child, log)
        for _ in range(3):
            answered(4, 4 * len(photos))
            server.await_idle(child.pid)
        yield Asked(child.pid, answered)


def await_answer(answered: Any, child: subprocess.Popen[str], log: Path) -> None:
    """Returns when all photos were answered well."""
    until = time.monotonic() + server.PATIENCE_S
    while time.monotonic() < until:
        if child.poll() is not None:
            raise RuntimeError(f"it ended with {child.returncode}: {server.last_words(log)}")
        try:
            if not answered(1, PHOTOS)[0].failed:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"it answered no photo: {server.last_words(log)}")


@contextmanager
def looping(candidate: Candidate, photos: list[bytes]) -> Any:
    """A loop in a process of its own, warmed up."""
    log = CACHE / f"{slug(candidate.group, candidate.name)}.log"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with server.running([str(candidate.python()), *candidate.words], HERE, {}, log, **pipes) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        if child.stdout.readline().strip() != "ready":
            raise RuntimeError(f"it ended: {server.last_words(log)}")

        def answered(callers: int, calls: int) -> tuple[caller.Found, int]:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps({"callers": callers, "calls": calls}) + "\n")
            child.stdin.flush()
            told = json.loads(child.stdout.readline())
            return caller.Found(told["seconds"], whole_s=told["whole_s"]), told["objects"]

        for _ in range(3):
            answered(4, 4 * len(photos))
            server.await_idle(child.pid)
        yield Asked(child.pid, answered)


def slug(*names: str) -> str:
    """A name for a file."""
    return "-".join(re.findall(r"[a-z0-9]+", " ".join(names).lower()))


def request(candidate: Candidate, port: int, photo: bytes) -> bytes:
    """The request that this candidate understands."""
    if candidate.form == "kserve":
        length = len(photo).to_bytes(4, "little")
        size = len(photo) + 4
        shape = {"name": "photo", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
        head = json.dumps({"inputs": [shape]}).encode()
        headers = (("Inference-Header-Content-Length", str(len(head))),)
        return caller.request(port, candidate.path, head + length + photo, "application/octet-stream", headers)
    if candidate.form:
        return caller.request(port, candidate.path, *caller.form(candidate.form, photo))
    # The Hugging Face API keeps answers; here every call is to be computed.
    return caller.request(port, candidate.path, photo, headers=(("x-use-cache", "false"),))


def quantile(seconds: list[float], part: float) -> float:
    """In milliseconds; 0 of nothing."""
    ordered = sorted(seconds)
    return 1e3 * ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


if __name__ == "__main__":
    main()
