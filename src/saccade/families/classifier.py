"""Image classification: one score a label for the whole picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from saccade import imageprocessor
from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.errors import BadOptions, RunFailed
from saccade.families.family import Prepared, Tensor, as_float32
from saccade.ops.activations import sigmoid, softmax
from saccade.ops.resize import Frame
from saccade.results import ByteArray, FloatArray, Labels

TOP_K = 5
ACTIVATIONS = ("sigmoid", "softmax", "none")


class Classifier:
    """Graphs whose first output is (n, classes).

    ``card.config``: "preprocessor" as in a ``preprocessor_config.json``; "config" as in a ``config.json``, of which
    ``problem_type`` chooses the activation; "activation" if the graph is not followed by softmax: "none" says that its
    numbers are scores already.
    """

    def __init__(self, card: Card) -> None:
        self.name = card.name
        self.labels = card.labels
        self.ends_in_scores = card.config.get("activation") == "none"
        self.processor = imageprocessor.of(mapping(card.config.get("preprocessor")), "ViT", card.input_hw)
        self.activation = str(card.config.get("activation") or activation(mapping(card.config.get("config")), card))

    def pixels(self) -> Mapping[str, Pixels]:
        return self.processor.pixels()

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        return Prepared(*self.processor(image_rgb))

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Labels:
        """Raises BadOptions for an activation that is not known, or that finished scores cannot be given."""
        if self.ends_in_scores:
            options = as_scores(options, self.name)
        return ranked(outputs[0], self.activation, self.labels, options)


FAMILY = Classifier


def ranked(output: Tensor, usual: str, names: Mapping[int, str], options: Options) -> Labels:
    """The best labels of one image's logits; ``usual`` is the activation when the caller chooses none."""
    logits = as_float32(output).reshape(-1)
    if not np.isfinite(logits).all():
        raise RunFailed("The model answered with numbers that are not finite.")
    scores = activated(logits, options.activation or usual)
    count = TOP_K if options.top_k is None else max(0, options.top_k)
    best = np.argsort(-scores, kind="stable")[:count]
    return Labels(
        class_ids=best.astype(np.int32),
        scores=scores[best],
        names=tuple(names.get(number, f"LABEL_{number}") for number in best.tolist()),
    )


def as_scores(options: Options, name: str) -> Options:
    """The options for a graph that ends in scores: a second softmax would make all of them nearly alike.

    Raises:
        BadOptions: a sigmoid is asked for, which only logits can be given.
    """
    chosen = (options.activation or "none").lower()
    if chosen == "sigmoid":
        raise BadOptions(
            f"sigmoid cannot be applied to what '{name}' answers: its graph ends in scores, not in logits. Leave "
            "function_to_apply out."
        )
    return msgspec.structs.replace(options, activation="none") if chosen == "softmax" else options


def mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def activation(config: Mapping[str, object], card: Card) -> str:
    """From logits to scores as transformers chooses it: regression, several labels at once, or one of many."""
    problem = config.get("problem_type")
    if problem == "regression":
        return "none"
    return "sigmoid" if problem == "multi_label_classification" or len(card.labels) == 1 else "softmax"


def activated(logits: FloatArray, name: str) -> FloatArray:
    """Scores (classes,).

    Raises:
        BadOptions: no activation has this name.
    """
    chosen = name.lower()
    if chosen == "softmax":
        return softmax(logits)
    if chosen == "sigmoid":
        return sigmoid(logits)
    if chosen == "none":
        return logits
    raise BadOptions(f"{name} is not a valid ClassificationFunction, please select one of {list(ACTIVATIONS)}")
