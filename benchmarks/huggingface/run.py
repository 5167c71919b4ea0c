"""A lone request, JPEG bytes → JSON: saccade against ``transformers.pipeline``, same checkpoint, same photos, one run.

    python benchmarks/huggingface/run.py --peer PYTHON --photos FOLDER [--model NAME ...] [--checkpoints FOLDER]

``PYTHON`` is the interpreter of an environment with transformers; it also makes the checkpoints (published
configurations, random weights: ``tests/convert/published.py``) that are not in ``--checkpoints`` yet, and converts
them. Every worker is a process of its own and answers every photo in a shuffled order; figures are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from saccade.card import Card
from saccade.convert import Converter
from saccade.stores.local import Local

HERE = Path(__file__).resolve().parent
PUBLISHED = HERE.parent.parent / "tests" / "convert" / "published.py"
MODELS = {
    "google/vit-base-patch16-224": ("image-classification", {}),
    "facebook/detr-resnet-50": ("object-detection", {"threshold": 0.5}),
    "facebook/mask2former-swin-tiny-coco-panoptic": ("image-segmentation", {"threshold": 0.2}),
    "facebook/mask2former-swin-large-coco-panoptic": ("image-segmentation", {"threshold": 0.2}),
}
"""Name → task and parameters. Random weights are seldom sure: segments are asked for at 0.2, so that there are some."""
PAUSE_S = 0.05
"""Between two requests, so that one peer's threads are asleep before the next begins."""


@dataclass
class Worker:
    """One peer as a process, and what was measured of it."""

    name: str
    command: Sequence[str]
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    rows: int = 0
    child: Any = None

    def start(self) -> None:
        self.child = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if self.child.stdout.readline().strip() != "ready":
            raise SystemExit(f"{self.name} did not start: {' '.join(self.command)}")

    def ask(self, path: Path) -> Any:
        self.child.stdin.write(json.dumps({"path": str(path)}) + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def stop(self) -> None:
        self.child.stdin.close()
        self.child.wait(60)


def main() -> None:
    given = arguments()
    photos = sorted(given.photos.glob("*.jpg"))[: given.limit]
    print(f"{platform.processor() or platform.machine()}, {given.threads} threads, {len(photos)} photos\n")
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.model or MODELS:
            measure(name, given, photos, Path(scratch))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="Python with transformers")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--checkpoints", type=Path, default=Path(tempfile.gettempdir()) / "saccade-checkpoints")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def measure(name: str, given: argparse.Namespace, photos: Sequence[Path], scratch: Path) -> None:
    task, parameters = MODELS[name]
    checkpoint = given.checkpoints / name.replace("/", "--")
    peer = str(given.peer.absolute())
    if not (checkpoint / "preprocessor_config.json").is_file():
        subprocess.run([peer, str(PUBLISHED), name, str(checkpoint), os.devnull], check=True, capture_output=True)
    card = converted(checkpoint, given)
    (scratch / "card.json").write_bytes(msgspec.json.encode(card))
    words = json.dumps(parameters)
    ours = [sys.executable, str(HERE / "saccade_worker.py"), str(scratch / "card.json")]
    theirs = [peer, str(HERE / "pipeline_worker.py"), task, str(checkpoint)]
    workers = [
        Worker("transformers.pipeline", [*theirs, str(given.threads), words]),
        Worker("saccade f32", [*ours, "f32", str(given.threads), words]),
        Worker("saccade auto", [*ours, "auto", str(given.threads), words]),
    ]
    for worker in workers:
        worker.start()
    rounds(workers, photos, given.rounds)
    for worker in workers:
        worker.stop()
    report(name, card, workers)


def converted(checkpoint: Path, given: argparse.Namespace) -> Card:
    found = Local([checkpoint]).find(checkpoint.name)
    if found is None:
        raise SystemExit(f"no checkpoint in {checkpoint}")
    made = Converter(given.checkpoints, str(given.peer.absolute())).convert(found)
    if made.runtime != "openvino":
        raise SystemExit(f"{checkpoint.name}: {made.config['unconverted']}")
    return made


def rounds(workers: Sequence[Worker], photos: Sequence[Path], count: int) -> None:
    """One unmeasured round, so that every shape is compiled, then ``count`` measured ones; the order is shuffled."""
    for number in range(count + 1):
        for photo in photos:
            for worker in random.sample(workers, len(workers)):
                time.sleep(PAUSE_S)
                told = worker.ask(photo)
                worker.rows = max(worker.rows, len(told["rows"]))
                if number:
                    worker.wall_ms.append(told["wall_ms"])
                    worker.cpu_ms.append(told["cpu_ms"])
        print(f"round {number} of {count}", file=sys.stderr)


def report(name: str, card: Card, workers: Sequence[Worker]) -> None:
    wall, cpu = (statistics.median(times) for times in (workers[0].wall_ms, workers[0].cpu_ms))
    print(f"{name} (certificate: {card.config['precision']}, at most {workers[0].rows} rows)\n")
    print("| peer | ms, median | × | CPU ms, median | × per CPU second |\n|---|---|---|---|---|")
    for worker in workers:
        mine, spent = statistics.median(worker.wall_ms), statistics.median(worker.cpu_ms)
        print(f"| {worker.name} | {mine:.1f} | {wall / mine:.2f} | {spent:.1f} | {cpu / spent:.2f} |")
    print(flush=True)


if __name__ == "__main__":
    main()
