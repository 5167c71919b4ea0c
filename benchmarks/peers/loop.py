"""The floor: JPEG bytes → JSON bytes with saccade's own parts and no server, no queue and no other process.

``loop.py FOLDER MODEL PRECISION SHAPES ENDS PHOTO…`` writes ``ready``, then for each line ``{"callers", "calls"}`` of
standard input one line ``{"seconds", "whole_s", "objects"}``. ``SHAPES`` 0 leaves a graph of free shape as it is,
``ENDS`` "whole" its heads, as a loop around the exported graph would; with "late" they are computed where boxes may be
kept.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from saccade import media
from saccade.call import Options
from saccade.dialects.yolo_items import items
from saccade.discover import share_out
from saccade.families.yolo import Yolo
from saccade.model import Model
from saccade.runtimes.session import Compute
from saccade.stores.local import Local

LIKE_THE_API = Options(conf=0.25, iou=0.45)


def main(folder: str, name: str, precision: str, shapes: str, ends: str, *photos: str) -> None:
    card = Local([Path(folder)]).find(name)
    assert card is not None
    cores = len(os.sched_getaffinity(0))
    compute = Compute(precision=precision, threads=cores, streams=cores, shapes=int(shapes))
    share_out(1)
    if ends == "whole":
        Yolo.grids = lambda self: None  # type: ignore[method-assign]
    model = Model(card, compute)
    bodies = [Path(photo).read_bytes() for photo in photos]
    objects: dict[int, int] = {}

    def once(number: int) -> float:
        started = time.perf_counter()
        answer = model.predict(media.decode(bodies[number % len(bodies)]).rgb, LIKE_THE_API)
        rows = items(answer.result, answer.image_hw)
        msgspec.json.encode({"images": [{"results": rows, "shape": answer.image_hw}]})
        objects[number % len(bodies)] = len(rows)
        return time.perf_counter() - started

    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        # One thread more than there are cores, as in a worker: the next photo is decoded while both compute.
        with ThreadPoolExecutor(min(asked["callers"], cores + 1)) as pool:
            started = time.perf_counter()
            seconds = list(pool.map(once, range(asked["calls"])))
            told = {"seconds": seconds, "whole_s": time.perf_counter() - started, "objects": sum(objects.values())}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
