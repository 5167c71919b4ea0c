"""Accuracy of the YOLO models on COCO photos, in f32 and in automatic precision, beside the reference library's.

    python benchmarks/accuracy/coco.py --data ../shared/data [--models yolov8n …] [--json] [--write docs/accuracy.md]

The data folder has ``models/NAME.onnx``, ``images/coco/*.jpg``, ``instances_60.json`` and ``person_keypoints_60.json``.
Everything goes through :class:`saccade.model.Model`, as in the server: confidence above 0.001, IoU 0.7, at most 300
detections; masks are scored as the polygons of the answer. pycocotools computes mAP50-95.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from saccade.call import Options
from saccade.media import decode
from saccade.model import Model
from saccade.results import Boxes, Keypoints, Masks
from saccade.runtimes.session import Compute
from saccade.stores.local import Local

Precision = Literal["f32", "auto"]
PRECISIONS: tuple[Precision, ...] = ("f32", "auto")

OPTIONS = Options(conf=0.001, iou=0.7, max_det=300)

REFERENCE = {
    "yolov8n": {"bbox": 0.4317},
    "yolo11n": {"bbox": 0.4268},
    "yolo26n": {"bbox": 0.4560},
    "yolo11n-seg": {"bbox": 0.4274, "segm": 0.3615},
    "yolov8n-seg-dynamic": {"bbox": 0.3997, "segm": 0.3383},
    "yolo11n-pose": {"bbox": 0.4775, "keypoints": 0.4407},
}
"""mAP50-95 of ultralytics 8.4.190 with onnxruntime 1.31.1 on the same photos, same settings."""


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--data", type=Path, required=True)
    asked.add_argument("--models", nargs="*", default=[*REFERENCE])
    asked.add_argument("--precisions", nargs="*", default=PRECISIONS, choices=PRECISIONS)
    asked.add_argument("--json", action="store_true", help="print JSON only")
    asked.add_argument("--write", type=Path, help="write the table into this Markdown file")
    given = asked.parse_args()
    measured = {}
    for name in given.models:
        measured[name] = {precision: accuracy(given.data, name, precision) for precision in given.precisions}
        if not given.json:
            print(name, json.dumps(measured[name]), flush=True)
    if given.json:
        print(json.dumps(measured))
    if given.write:
        given.write.write_text(page(measured))


def accuracy(data: Path, name: str, precision: Precision) -> dict[str, float]:
    """mAP50-95 of each metric that the model's task has."""
    card = Local([data / "models"]).find(name)
    if card is None:
        raise SystemExit(f"There is no model {name} in {data / 'models'}.")
    model = Model(card, Compute(precision=precision, threads=os.cpu_count() or 1, lone=False))
    pose = card.task == "pose"
    truth = silently(lambda: COCO(data / "images/coco" / f"{'person_keypoints' if pose else 'instances'}_60.json"))
    categories = [category["id"] for category in truth.dataset["categories"]]
    found: list[dict[str, Any]] = []
    for image in truth.dataset["images"]:
        rgb = decode((data / "images/coco" / image["file_name"]).read_bytes()).rgb
        for item in items(model.predict(rgb, OPTIONS).result, rgb.shape[:2]):
            found.append({**item, "image_id": image["id"], "category_id": categories[item["category_id"]]})
    model.close()
    metrics = ["bbox", *(["segm"] if card.task == "segment" else []), *(["keypoints"] if pose else [])]
    return {metric: silently(lambda metric=metric: average_precision(truth, found, metric)) for metric in metrics}


def items(result: Any, hw: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """One entry a detection in COCO's result format, with the class id in place of the category."""
    assert isinstance(result, Boxes | Masks | Keypoints)
    for row, (left, top, right, bottom) in enumerate(result.boxes_xyxy.tolist()):
        item: dict[str, Any] = {
            "category_id": int(result.class_ids[row]),
            "score": float(result.scores[row]),
            "bbox": [left, top, right - left, bottom - top],
        }
        match result:
            case Masks():
                # pycocotools takes four numbers for a box, not for a line of two points.
                ring = result.polygons[row].astype(float).ravel().tolist()
                ring = ring if len(ring) > 4 else [*ring, *ring, *ring][:6]
                item["segmentation"] = coco_mask.merge(coco_mask.frPyObjects([ring], *hw))
            case Keypoints():
                seen = np.ones((len(result.keypoints_xy[row]), 1))
                item["keypoints"] = np.concatenate((result.keypoints_xy[row], seen), axis=1).ravel().tolist()
        yield item


def average_precision(truth: COCO, found: list[dict[str, Any]], metric: str) -> float:
    kept = ("image_id", "category_id", "score", {"segm": "segmentation"}.get(metric, metric))
    results = truth.loadRes([{key: item[key] for key in kept} for item in found])
    evaluation = COCOeval(truth, results, metric)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return round(float(evaluation.stats[0]), 4)


def silently(work: Any) -> Any:
    """The work's answer, without what pycocotools prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return work()


def page(measured: dict[str, dict[str, dict[str, float]]]) -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("openvino", "opencv-python-headless", "numpy"))
    rows = [
        f"| {name} | {metric} | {REFERENCE.get(name, {}).get(metric, float('nan')):.4f} | {exact:.4f} | {fast:.4f} "
        f"| {100 * (fast - exact):+.2f} |"
        for name, by_precision in measured.items()
        for (metric, exact), fast in zip(by_precision["f32"].items(), by_precision["auto"].values(), strict=True)
    ]
    return PAGE.format(date=datetime.now(UTC).date(), processor=processor(), libraries=libraries, rows="\n".join(rows))


def processor() -> str:
    """The model name, and what of it decides about precision."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    has = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in facts.get("flags", "").split()]
    return f"{facts.get('model name', platform.machine())} ({', '.join(has)})"


PAGE = """# Accuracy

Written by `benchmarks/accuracy/coco.py` on {date}; {processor}; {libraries}.

mAP50-95 on 60 photos of COCO val2017 (keypoints: 25 photos), confidence above 0.001, IoU 0.7, at most 300 detections,
masks scored as answered polygons. The reference is ultralytics 8.4.190 with onnxruntime 1.31.1 in float32 on the same
photos. These are check values for 60 photos, not the models' published accuracy: a difference of half a point between
two precisions is noise.

| model | metric | reference | f32 | auto | auto − f32, points |
|---|---|---|---|---|---|
{rows}

`f32` answers as the reference does. `auto` takes what the processor computes fastest: bfloat16 (on ARM float16)
where it has instructions for it, otherwise float32 (then both columns agree). In bfloat16 single scores move by up to
0.05 and single boxes by some pixels; `saccade verify MODEL` measures that for your model and your photos.
"""


if __name__ == "__main__":
    main()
