"""A model is a Card, its Family and a Session; this is the only place where the three meet."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray

from saccade import families, runtimes
from saccade.call import Answer, Options
from saccade.card import Card
from saccade.families.family import Prepared
from saccade.meter import Timings
from saccade.ops.masks import rendered
from saccade.ops.resize import Frame
from saccade.results import ByteArray, Masks, Result
from saccade.runtimes.session import Compute

DEFAULTS = Options()
"""Every choice left to the family."""


class Model:
    """An opened model. Thread-safe: ``prepare``, ``run`` and ``read`` may be called from many threads."""

    def __init__(self, card: Card, compute: Compute) -> None:
        """Opens the card's files; ``close`` gives the memory back.

        Raises:
            CorruptFiles, UnsupportedModel, MissingExtra: see the families and the runtimes.
        """
        self.card = card
        self.family = families.find(card.family)(card)
        self.session = runtimes.find(runtime_on(card, compute.device))(
            card, self.family.pixels(), certified(card, compute)
        )

    def prepare(self, image_rgb: ByteArray, options: Options = DEFAULTS) -> Prepared:
        """One image (height, width, 3) uint8 RGB, made ready for :meth:`run`."""
        return self.family.prepare(image_rgb, options)

    def run(self, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The graph's outputs; the leading axis of every tensor is the batch."""
        return self.session.run(tensors)

    def read(self, outputs: Sequence[NDArray[Any]], frame: Frame, options: Options = DEFAULTS) -> Result:
        """The Result of one image; masks come in the form that the options ask for."""
        result = self.family.read(outputs, frame, options)
        return rendered(result, options.mask_form) if isinstance(result, Masks) else result

    def predict(self, image_rgb: ByteArray, options: Options = DEFAULTS) -> Answer:
        """prepare → run → read for one image, with the time that each took."""
        started = time.perf_counter()
        prepared = self.prepare(image_rgb, options)
        ready = time.perf_counter()
        outputs = self.run(prepared.tensors)
        ran = time.perf_counter()
        result = self.read(outputs, prepared.frame, options)
        done = time.perf_counter()
        timings = Timings(
            preprocess_ms=(ready - started) * 1e3, inference_ms=(ran - ready) * 1e3, postprocess_ms=(done - ran) * 1e3
        )
        return Answer(
            result=result,
            image_hw=prepared.frame.image_hw,
            timings=timings,
            model=self.card.name,
            revision=self.card.revision,
            input_hw=prepared.frame.input_hw,
        )

    def close(self) -> None:
        """Gives the memory back; a closed model is not used again."""
        self.session.close()


def runtime_on(card: Card, device: str) -> str:
    """The runtime that serves a card on a device: OpenVINO computes on processors, ONNX Runtime on NVIDIA's cards."""
    on_a_card = device == "cuda" and card.runtime == "openvino" and bool(card.files) and card.files[0].endswith(".onnx")
    return "onnxruntime" if on_a_card else card.runtime


def certified(card: Card, compute: Compute) -> Compute:
    """At "auto", the precision that the card was found to bear: a graph that answers too differently in the fast one
    (it was compared when it was made) runs in f32."""
    if compute.precision == "auto" and card.config.get("precision") == "f32":
        return msgspec.structs.replace(compute, precision="f32")
    return compute


def furnish(runtime: str) -> None:
    """Imports all families and a runtime with its library, so that opening a model later does not have to.

    Raises:
        UnsupportedModel, MissingExtra: see the runtimes.
    """
    families.furnish()
    runtimes.furnish(runtime)
