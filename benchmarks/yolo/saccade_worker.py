"""JPEG bytes → JSON with saccade's own model, one photo a line of standard input. Started by ``run.py``."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import msgspec

from saccade import media
from saccade.call import Options
from saccade.dialects.yolo_items import items
from saccade.discover import share_out
from saccade.model import Model
from saccade.runtimes.session import Compute
from saccade.stores.local import Local


def main(graph: str, precision: str, threads: str) -> None:
    """Reads ``{"path", "conf", "iou"}`` a line; writes one with ``wall_ms, cpu_ms, items, read_ms, post_ms``."""
    share_out(1)  # as saccade's own programs do
    store = Local([Path(graph)])
    compute = Compute(precision="f32" if precision == "f32" else "auto", threads=int(threads))
    model = Model(store.card(store.entries()[0]), compute)
    photos: dict[str, bytes] = {}
    encoder = msgspec.json.Encoder()
    print("ready", flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        data = photos.setdefault(ask["path"], Path(ask["path"]).read_bytes())
        options = Options(conf=ask["conf"], iou=ask["iou"])
        wall, cpu = time.perf_counter(), time.process_time()
        answer = model.predict(media.decode(data).rgb, options)
        predicted = time.perf_counter()
        body = encoder.encode(items(answer.result, answer.image_hw))
        done = time.perf_counter()
        cpu_ms = (time.process_time() - cpu) * 1e3
        told = {
            "wall_ms": (done - wall) * 1e3,
            "cpu_ms": cpu_ms,
            "read_ms": answer.timings.postprocess_ms,
            "post_ms": answer.timings.postprocess_ms + (done - predicted) * 1e3,
            "items": json.loads(body),
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
