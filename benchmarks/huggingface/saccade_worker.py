"""JPEG bytes → JSON with saccade's own model, one photo a line of standard input. Started by ``run.py``.

Takes CARD PRECISION THREADS PARAMETERS; writes ``{"wall_ms", "cpu_ms", "rows"}`` a line.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import msgspec

from saccade import media
from saccade.call import Options
from saccade.card import Card
from saccade.dialects.huggingface_answer import rows_of
from saccade.model import Model
from saccade.runtimes.session import Compute


def main(card: str, precision: str, threads: str, parameters: str) -> None:
    found = msgspec.json.decode(Path(card).read_bytes(), type=Card)
    # "auto" is measured also where the graph's certificate asks for f32; the table says so.
    found = msgspec.structs.replace(found, config={**found.config, "precision": "auto"})
    model = Model(found, Compute(precision="f32" if precision == "f32" else "auto", threads=int(threads)))
    chosen = json.loads(parameters)
    options = Options(conf=chosen.get("threshold"), subtask=chosen.get("subtask"), mask_form="png")
    encoder = msgspec.json.Encoder()
    print("ready", flush=True)
    for line in sys.stdin:
        data = Path(json.loads(line)["path"]).read_bytes()
        wall, cpu = time.perf_counter(), time.process_time()
        answer = model.predict(media.decode(data).rgb, options)
        body = encoder.encode(rows_of(answer.result))
        told = {
            "wall_ms": (time.perf_counter() - wall) * 1e3,
            "cpu_ms": (time.process_time() - cpu) * 1e3,
            "rows": json.loads(body),
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
