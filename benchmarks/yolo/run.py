"""A lone request, JPEG bytes → JSON: saccade against ``ultralytics`` predict, same weights, same photos, one run.

    python benchmarks/yolo/run.py --checkpoint yolov8n.pt --peer PYTHON --photos FOLDER [--annotations coco.json]

``PYTHON`` is the interpreter of an environment with ultralytics; it also exports the checkpoint that saccade serves.
Every worker is a process of its own and answers every photo in turn; figures are medians over all rounds, ratios are
against ``ultralytics .pt`` as it comes. With annotations (COCO instances), mAP50-95 stands beside the speed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COCO_IDS = [n for n in range(1, 91) if n not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
"""Category ids of COCO, in the order of the 80 classes that models know."""

IOU = 0.45
MANY = range(15, 26)
"""Photos with so many objects show what post-processing takes."""
ACCURACY = {"conf": 0.001, "iou": 0.7}
PAUSE_S = 0.01
"""Between two requests, so that one peer's threads are asleep before the next begins."""


@dataclass
class Worker:
    """One peer as a process, and what was measured of it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    shares: list[tuple[int, float, float]] = field(default_factory=list)
    """Of each answer: how many objects, and which part of the time reading the graph's numbers took; then with JSON."""
    child: Any = None

    def start(self) -> None:
        self.child = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "YOLO_AUTOINSTALL": "False", **self.environment},
        )
        while True:
            line = self.child.stdout.readline()
            if not line:
                raise SystemExit(f"{self.name} did not start: {' '.join(self.command)}")
            if line.strip() == "ready":
                return

    def ask(self, path: Path, words: Mapping[str, float]) -> Any:
        self.child.stdin.write(json.dumps({"path": str(path), **words}) + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def stop(self) -> None:
        self.child.stdin.close()
        self.child.wait(30)


def main() -> None:
    given = arguments()
    photos = sorted(given.photos.glob("*.jpg"))[: given.limit]
    with tempfile.TemporaryDirectory() as folder:
        graph = exported(given.checkpoint, given.peer, Path(folder))
        workers = peers(given, graph)
        for worker in workers:
            worker.start()
        rounds(workers, photos, given.rounds, {"conf": given.conf, "iou": IOU})
        accuracy = {worker.name: mean_precision(worker, photos, given.annotations) for worker in workers}
        for worker in workers:
            worker.stop()
    report(given, workers, accuracy, len(photos))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--peer", type=Path, required=True, help="Python with ultralytics")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, help="COCO instances of the photos")
    parser.add_argument("--conf", type=float, default=0.25, help="threshold of the timed calls; 0.1 finds more objects")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def exported(checkpoint: Path, peer: Path, folder: Path) -> Path:
    from saccade.stores.ultralytics import Exporter

    graph = folder / f"{checkpoint.stem}.onnx"
    Exporter(folder, peer).export(checkpoint, graph)
    return graph


def peers(given: argparse.Namespace, graph: Path) -> list[Worker]:
    ours = [sys.executable, str(HERE / "saccade_worker.py"), str(graph)]
    theirs = [str(given.peer.absolute()), str(HERE / "ultralytics_worker.py")]
    threads = str(given.threads)
    checkpoint = str(given.checkpoint.absolute())
    return [
        Worker("ultralytics .pt", [*theirs, checkpoint, "0"]),
        Worker(f"ultralytics .pt, {threads} threads", [*theirs, checkpoint, threads], {"OMP_NUM_THREADS": threads}),
        Worker("ultralytics .onnx", [*theirs, str(graph), "0"]),
        Worker("saccade f32", [*ours, "f32", threads]),
        Worker("saccade auto", [*ours, "auto", threads]),
    ]


def rounds(workers: Sequence[Worker], photos: Sequence[Path], count: int, words: Mapping[str, float]) -> None:
    """One unmeasured round, so that every shape is compiled, then ``count`` measured ones; the order is shuffled."""
    for number in range(count + 1):
        for photo in photos:
            for worker in random.sample(workers, len(workers)):
                time.sleep(PAUSE_S)
                told = worker.ask(photo, words)
                if number:
                    worker.wall_ms.append(told["wall_ms"])
                    worker.cpu_ms.append(told["cpu_ms"])
                    read, post = told["read_ms"] / told["wall_ms"], told["post_ms"] / told["wall_ms"]
                    worker.shares.append((len(told["items"]), read, post))
        print(f"round {number} of {count}", file=sys.stderr)


def mean_precision(worker: Worker, photos: Sequence[Path], annotations: Path | None) -> dict[str, float]:
    """mAP50-95 of boxes, and of outlines if there are any, by pycocotools."""
    if annotations is None:
        return {}
    import numpy as np
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        found = [
            entry for photo in photos for entry in coco_entries(int(photo.stem), worker.ask(photo, ACCURACY)["items"])
        ]
        kinds = ["bbox", "segm"] if any("segmentation" in entry for entry in found) else ["bbox"]
        figures = {}
        for kind in kinds:
            usable = [entry for entry in found if kind == "bbox" or entry.get("segmentation")]
            evaluation = COCOeval(truth, truth.loadRes(usable), kind)
            evaluation.params.imgIds = [int(photo.stem) for photo in photos]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            figures[kind] = float(np.asarray(evaluation.stats)[0])
    return figures


def coco_entries(image: int, items: Sequence[Any]) -> list[dict[str, Any]]:
    entries = []
    for item in items:
        box = item["box"]
        entry = {
            "image_id": image,
            "category_id": COCO_IDS[item["class"]],
            "bbox": [box["x1"], box["y1"], box["x2"] - box["x1"], box["y2"] - box["y1"]],
            "score": item["confidence"],
        }
        if "segments" in item:
            points = zip(item["segments"]["x"], item["segments"]["y"], strict=True)
            ring = [value for point in points for value in point]
            entry["segmentation"] = [ring] if len(ring) >= 6 else []
        entries.append(entry)
    return entries


def report(
    given: argparse.Namespace, workers: Sequence[Worker], accuracy: Mapping[str, dict[str, float]], photos: int
) -> None:
    base = workers[0]
    print(f"{given.checkpoint.stem}, {photos} photos, {given.rounds} rounds, {given.threads} cores, {processor()}\n")
    print("| peer | ms, median | × | CPU ms, median | × per CPU second | mAP50-95 |")
    print("|---|---|---|---|---|---|")
    for worker in workers:
        wall, cpu = statistics.median(worker.wall_ms), statistics.median(worker.cpu_ms)
        figures = ", ".join(f"{kind} {value:.4f}" for kind, value in accuracy[worker.name].items())
        faster = statistics.median(base.wall_ms) / wall
        cheaper = statistics.median(base.cpu_ms) / cpu
        print(f"| {worker.name} | {wall:.1f} | {faster:.2f} | {cpu:.1f} | {cheaper:.2f} | {figures} |")
    print("\nPost-processing, and with JSON, as a share of the whole, photos with 15 to 25 objects")
    print("(outlines of masks are post-processing in saccade, part of the JSON in ultralytics):")
    for worker in workers:
        shares = [told[1:] for told in worker.shares if told[0] in MANY]
        if shares:
            read, post = (statistics.median(column) for column in zip(*shares, strict=True))
            print(f"* {worker.name}: {read:.1%}, {post:.1%} (medians of {len(shares)})")


def processor() -> str:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    flags = {flag for flag in ("amx_bf16", "avx512_bf16") if flag in text}
    return f"{names[0] if names else platform.processor()} ({', '.join(sorted(flags)) or 'no bf16'})"


if __name__ == "__main__":
    main()
