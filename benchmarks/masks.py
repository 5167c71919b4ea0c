"""How long it takes to write a mask of 1920 × 1080 as a PNG, beside Pillow: python benchmarks/masks.py

One thread, nine rounds in turn; medians in milliseconds, and the sizes of the files. Both files are read again and must
hold the same pixels. The masks are drawn: outlines as ragged as those that networks give.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.ops import maps
from saccade.ops.masks import png

ROUNDS = 9
HW = (1080, 1920)

Mask = NDArray[np.uint8]


def ragged(parts: int, share: float, seed: int) -> Mask:
    """A region of 0 and 1 that covers a share of the picture; the more ``parts``, the smaller its pieces."""
    random = np.random.default_rng(seed)
    coarse = random.normal(size=(parts * 9 // 16 + 2, parts)).astype(np.float32)
    smooth = cv2.resize(coarse, HW[::-1], interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(random.normal(size=(270, 480)).astype(np.float32), HW[::-1], interpolation=cv2.INTER_LINEAR)
    values = smooth + 0.05 * fine
    return (values > np.quantile(values, 1 - share)).astype(np.uint8)


def one_object() -> Mask:
    """A person's size in the middle of the picture."""
    mask = np.zeros(HW, np.uint8)
    cv2.ellipse(mask, (980, 560), (160, 330), 8, 0, 360, 1, -1)
    return mask & (ragged(60, 0.8, 1) | cv2.erode(mask, np.ones((60, 60), np.uint8)))


MASKS: dict[str, Callable[[], Mask]] = {
    "one object": one_object,
    "a large area": lambda: ragged(6, 0.5, 2),
    "many pieces": lambda: ragged(40, 0.3, 3),
    "everything": lambda: np.ones(HW, np.uint8),
    "nothing": lambda: np.zeros(HW, np.uint8),
}


def by_saccade(mask: Mask) -> bytes:
    return png(maps.cut(mask), HW)


def by_pillow(mask: Mask) -> bytes:
    target = io.BytesIO()
    Image.fromarray(mask * np.uint8(255)).save(target, "PNG")
    return target.getvalue()


WRITERS: dict[str, Callable[[Mask], bytes]] = {"saccade": by_saccade, "Pillow": by_pillow}


def pixels(file: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(file))
    assert (image.mode, image.size) == ("L", HW[::-1])
    return np.asarray(image)


def main() -> None:
    print("| mask | saccade, ms | Pillow, ms | × | saccade, bytes | Pillow, bytes |\n|---|---|---|---|---|---|")
    for name, make in MASKS.items():
        mask = make()
        files = {writer: write(mask) for writer, write in WRITERS.items()}
        assert all(np.array_equal(pixels(file), mask * 255) for file in files.values())
        times: dict[str, list[float]] = {writer: [] for writer in WRITERS}
        for _ in range(ROUNDS):
            for writer, write in WRITERS.items():
                started = time.perf_counter()
                write(mask)
                times[writer].append((time.perf_counter() - started) * 1e3)
        ours, theirs = (statistics.median(taken) for taken in times.values())
        sizes = " | ".join(str(len(file)) for file in files.values())
        print(f"| {name} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.1f} | {sizes} |", flush=True)


if __name__ == "__main__":
    main()
