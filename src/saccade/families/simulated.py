"""What goes with the simulated runtime: for drills and for measuring the engine itself, never for users' models.

Its answer depends on the image, so that a mixed-up answer is noticed: one box over the whole picture, whose score is
the picture's mean brightness, 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.families.family import Prepared
from saccade.ops.resize import Frame
from saccade.results import Boxes, ByteArray, Result

SIDE = 8
"""The network's input is a sample of so many rows and columns."""


class Simulated:
    """See :class:`saccade.families.family.Family`."""

    def __init__(self, card: Card) -> None:
        self._name = card.labels.get(0, "picture")

    def pixels(self) -> Mapping[str, Pixels]:
        """One picture."""
        return {"": Pixels()}

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        """Every so many-th pixel."""
        height, width = image_rgb.shape[:2]
        sample = image_rgb[_sampled(height)][:, _sampled(width)][None]
        return Prepared({"": sample}, Frame(image_hw=(height, width), input_hw=(SIDE, SIDE)))

    def read(self, outputs: Sequence[NDArray[Any]], frame: Frame, options: Options) -> Result:
        """One box over the whole picture."""
        height, width = frame.image_hw
        score = float(outputs[0][0, 0]) / 255
        kept = 1 if score > (options.conf if options.conf is not None else -1.0) else 0
        return Boxes(
            boxes_xyxy=np.array([[0, 0, width, height]], dtype=np.float32)[:kept],
            scores=np.array([score], dtype=np.float32)[:kept],
            class_ids=np.zeros(1, dtype=np.int32)[:kept],
            names=(self._name,)[:kept],
        )


@lru_cache(maxsize=64)
def _sampled(length: int) -> NDArray[np.intp]:
    """Evenly spread positions."""
    return np.linspace(0, length - 1, SIDE).astype(np.intp)


FAMILY = Simulated
