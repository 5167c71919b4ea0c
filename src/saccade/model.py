"""A model is a Card, its Family and a Session; this is the only place where the three meet."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray

from saccade import families, media, runtimes
from saccade.call import Answer, Options
from saccade.card import Card
from saccade.errors import UnsupportedModel
from saccade.families.family import Gridded, Prepared, Worded
from saccade.lexicon import Lexicon
from saccade.meter import Timings
from saccade.ops.branches import seconds_on
from saccade.ops.masks import chosen, rendered
from saccade.ops.resize import Frame
from saccade.results import ByteArray, Masks, Result
from saccade.runtimes.session import Compute

log = logging.getLogger("saccade.model")

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
        grids = self.family.grids() if isinstance(self.family, Gridded) else None
        self.session = runtimes.find(runtime_on(card, compute.device))(
            card, self.family.pixels(), certified(card, compute), *(() if grids is None else (grids,))
        )
        self.words = Words(self.family, compute) if isinstance(self.family, Worded) else None
        self.trial = self.family.trial if isinstance(self.family, Worded) else DEFAULTS
        """Options with which the model can be tried when nobody has chosen any."""

    def shown(self, image: media.Image) -> ByteArray:
        """The pixels of a decoded picture as this model is shown them."""
        processor = getattr(self.family, "processor", None)  # ours, or one from transformers
        return image.on_white if getattr(processor, "do_convert_rgb", False) else image.rgb

    def prepare(self, image_rgb: ByteArray, options: Options = DEFAULTS) -> Prepared:
        """One image (height, width, 3) uint8 RGB, made ready for :meth:`run`."""
        if self.words is not None:
            self.words(options)  # so that a text that cannot be used is refused before the picture costs anything
        return self.family.prepare(image_rgb, options)

    def run(self, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The graph's outputs; the leading axis of every tensor is the batch."""
        return self.session.run(tensors)

    def read(self, outputs: Sequence[NDArray[Any]], frame: Frame, options: Options = DEFAULTS) -> Result:
        """The Result of one image; masks come in the form that the options ask for.

        Raises:
            UnsupportedModel: the family cannot read what the graph answers.
        """
        beside = () if self.words is None else self.words(options)
        try:
            result = self.family.read([*outputs, *beside], frame, options)
        except (IndexError, ValueError) as error:
            name, family = self.card.name, self.card.family
            log.warning(
                "the family %s cannot read the answer of '%s': %s: %s", family, name, type(error).__name__, error
            )
            shapes = ", ".join(str([*output.shape]) for output in outputs)
            raise UnsupportedModel(
                f"The model '{name}' answers with {shapes}, which its family '{family}' cannot read. Check the family "
                "and the task that its sidecar names."
            ) from error
        if not isinstance(result, Masks):
            return result
        # Segmenters share the picture out among all their classes, so what is not wanted goes last.
        return rendered(chosen(result, options.classes, options.max_det), options.mask_form)

    def predict(self, image_rgb: ByteArray, options: Options = DEFAULTS) -> Answer:
        """prepare → run → read for one image, with the time that each took."""
        started = time.perf_counter()
        prepared = self.prepare(image_rgb, options)
        ready = time.perf_counter()
        outputs = self.run(prepared.tensors)
        ran = time.perf_counter()
        result = self.read(outputs, prepared.frame, options)
        done = time.perf_counter()
        return Answer(
            result=result,
            image_hw=prepared.frame.image_hw,
            timings=timed(started, ready, ran, done, outputs),
            model=self.card.name,
            revision=self.card.revision,
            input_hw=prepared.frame.input_hw,
        )

    def close(self) -> None:
        """Gives the memory back; a closed model is not used again."""
        self.session.close()
        if self.words is not None:
            self.words.close()


def timed(begun: float, ready: float, ran: float, done: float, outputs: Sequence[NDArray[Any]]) -> Timings:
    """The stages between these moments, in seconds; what a head computes late is inference, too."""
    late = seconds_on(outputs)
    return Timings(
        preprocess_ms=(ready - begun) * 1e3,
        inference_ms=(ran - ready + late) * 1e3,
        postprocess_ms=(done - ran - late) * 1e3,
    )


class Words:
    """The second graph of a model that compares pictures with texts, and what it made of them so far."""

    def __init__(self, family: Worded, compute: Compute) -> None:
        """Always in f32: a text costs its time once, and its error would be in every answer."""
        card = family.text_card()
        exact = msgspec.structs.replace(compute, precision="f32", streams=1, lone=False, shapes=0)
        self.family = family
        self.session = runtimes.find(runtime_on(card, compute.device))(card, {}, exact)
        self.lexicon = Lexicon(lambda texts: self.session.run(family.tokens(texts)))

    def __call__(self, options: Options) -> list[NDArray[Any]]:
        """What the graph makes of the texts of a call. Raises BadOptions."""
        return self.lexicon(self.family.texts(options))

    def close(self) -> None:
        """Gives the memory back."""
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
