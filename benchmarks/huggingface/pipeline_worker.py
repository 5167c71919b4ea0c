"""JPEG bytes → JSON with ``transformers.pipeline``, one photo a line of standard input. Started by ``run.py``.

Takes TASK CHECKPOINT THREADS PARAMETERS; writes ``{"wall_ms", "cpu_ms", "rows"}`` a line. What comes out is what the
Hub answers: rows of label, score, box or the mask as a PNG in base64.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import time
from pathlib import Path
from typing import Any


def main(task: str, checkpoint: str, threads: str, parameters: str) -> None:
    import torch
    import transformers
    from PIL import Image

    torch.set_num_threads(int(threads))
    transformers.logging.set_verbosity_error()
    pipe = transformers.pipeline(task, model=checkpoint, device="cpu")
    chosen = json.loads(parameters)
    print("ready", flush=True)
    for line in sys.stdin:
        data = Path(json.loads(line)["path"]).read_bytes()
        wall, cpu = time.perf_counter(), time.process_time()
        rows = pipe(Image.open(io.BytesIO(data)), **chosen)
        body = json.dumps([plain(row) for row in rows])
        told = {
            "wall_ms": (time.perf_counter() - wall) * 1e3,
            "cpu_ms": (time.process_time() - cpu) * 1e3,
            "rows": json.loads(body),
        }
        print(json.dumps(told), flush=True)


def plain(row: dict[str, Any]) -> dict[str, Any]:
    if "mask" in row:
        file = io.BytesIO()
        row["mask"].save(file, format="PNG")
        row["mask"] = base64.b64encode(file.getvalue()).decode()
    return row


if __name__ == "__main__":
    main(*sys.argv[1:])
