"""How long decoding takes, beside OpenCV and Pillow: python benchmarks/decode.py [PHOTO ...]

Without photos a synthetic one is used. Each library runs in turn, seven rounds, one thread; medians in milliseconds.
"""

from __future__ import annotations

import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pi_heif
from PIL import Image, ImageOps

from saccade.media import decode, probe

ROUNDS = 7
SIZES = {"640x480": (640, 480), "1920x1080": (1920, 1080), "4000x3000": (4000, 3000)}
FORMATS = {"JPEG": {"quality": 90}, "PNG": {}, "WEBP": {}, "AVIF": {"speed": 9}, "TIFF": {}, "GIF": {}}


def by_opencv(data: bytes) -> object:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def by_pillow(data: bytes) -> object:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


READERS: dict[str, Callable[[bytes], object]] = {
    "saccade": decode,
    "opencv": by_opencv,
    "pillow": by_pillow,
    "probe": probe,
}


def synthetic(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    grain = rng.integers(-6, 7, smooth.shape, dtype=np.int16)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def encoded(picture: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **FORMATS[form])
    return buffer.getvalue()


def medians(files: list[bytes]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in READERS}
    for _ in range(ROUNDS):
        for name, read in READERS.items():
            started = time.perf_counter()
            try:
                for data in files:
                    read(data)
            except (cv2.error, OSError):
                continue
            times[name].append((time.perf_counter() - started) * 1e3 / len(files))
    return {name: statistics.median(taken) if taken else float("nan") for name, taken in times.items()}


def main() -> None:
    pi_heif.register_heif_opener()
    cv2.setNumThreads(1)
    photos = [Path(name).read_bytes() for name in sys.argv[1:]]
    cases = {f"{len(photos)} photos": photos} if photos else {}
    if not photos:
        for size, (width, height) in SIZES.items():
            picture = synthetic(width, height)
            forms = FORMATS if size == "1920x1080" else {"JPEG": {}}
            cases |= {f"{form} {size}": [encoded(picture, form)] for form in forms}
    print(f"{'':18}" + "".join(f"{name:>10}" for name in READERS))
    for name, files in cases.items():
        print(f"{name:18}" + "".join(f"{taken:10.2f}" for taken in medians(files).values()), flush=True)


if __name__ == "__main__":
    main()
