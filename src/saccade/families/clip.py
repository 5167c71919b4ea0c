"""Labels that the caller brings along (zero-shot classification): CLIP, SigLIP, SigLIP 2.

A picture and a sentence for each label become features, whose likeness is the score. The numbers are those of
``ZeroShotImageClassificationPipeline`` of transformers 5.23: likenesses are scaled and shifted, then compared with one
another (softmax) or, by SigLIP, each judged on its own (sigmoid).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from saccade import imageprocessor
from saccade.call import Options
from saccade.card import Card, Pixels
from saccade.errors import BadOptions, RunFailed, UnsupportedModel
from saccade.families.classifier import mapping
from saccade.families.family import Prepared, Tensor, Tensors, as_float32
from saccade.ops.activations import sigmoid, softmax
from saccade.ops.resize import Frame
from saccade.results import ByteArray, Labels
from saccade.tokenizers import Tokenizer

TEXT_GRAPH, TOKENIZER = "text.xml", "tokenizer.json"
"""Files beside the picture's graph."""
TEMPLATE = "This is a photo of {}."
PLACE = "{}"
MOST_LABELS, LONGEST_LABEL = 1000, 1000
"""Of one call, and of one label in characters; what a model reads of a text is a fraction of it."""
LONGEST_TEXT = 2 * LONGEST_LABEL
"""Of a label in its template, which may hold it many times over."""


class Clip:
    """Graphs of two towers: of a picture (n, features); of texts their features (n, features), scaled to length
    ``exp(logit_scale)``, and what is to be added to each likeness (n,).

    ``card.config``: "preprocessor" and "config" as in a Hub repository; "text": the names of the second graph's
    ``inputs``, and the ``longest`` text that it takes, in tokens.
    """

    trial = Options(candidate_labels=("a photo", "a drawing"))

    def __init__(self, card: Card) -> None:
        self.card = card
        kind = str(mapping(card.config.get("config")).get("model_type", ""))
        self.processor = imageprocessor.of(
            mapping(card.config.get("preprocessor")), {"siglip": "Siglip", "siglip2": "Siglip2"}.get(kind, "CLIP")
        )
        self.activation = sigmoid if "siglip" in kind else softmax
        files = {Path(file).name: file for file in card.files}
        if TEXT_GRAPH not in files or TOKENIZER not in files:
            why = card.config.get("unconverted") or "It has not been converted."
            raise UnsupportedModel(
                f"'{card.name}' can be served only as two graphs made of its safetensors, one for pictures and one for "
                f"texts. {why}"
            )
        self.text_graph = Path(files[TEXT_GRAPH])
        self.tokenizer = Tokenizer(Path(files[TOKENIZER]))
        facts = mapping(card.config.get("text"))
        self.inputs, self.longest = facts.get("inputs"), facts.get("longest")

    def pixels(self) -> Mapping[str, Pixels]:
        return self.processor.pixels()

    def prepare(self, image_rgb: ByteArray, options: Options) -> Prepared:
        return Prepared(*self.processor(image_rgb))

    def text_card(self) -> Card:
        files = (str(self.text_graph), str(self.text_graph.with_suffix(".bin")))
        return msgspec.structs.replace(self.card, runtime="openvino", files=files)

    def texts(self, options: Options) -> tuple[str, ...]:
        template = TEMPLATE if options.hypothesis_template is None else options.hypothesis_template
        if PLACE not in template:
            raise BadOptions(f"The hypothesis template '{template[:60]}' has no {PLACE} where the label goes.")
        labels = candidates(options)
        length = len(template) + template.count(PLACE) * max(len(label) - len(PLACE) for label in labels)
        if length > LONGEST_TEXT:
            raise BadOptions(
                f"The longest label is a text of {length} characters in the hypothesis template; at most "
                f"{LONGEST_TEXT} are allowed. Send a shorter template."
            )
        return tuple(template.replace(PLACE, label) for label in labels)

    def tokens(self, texts: Sequence[str]) -> Tensors:
        numbers, mask = self.tokenizer(texts)
        if isinstance(self.longest, int) and numbers.shape[1] > self.longest:
            worst = int(mask.sum(axis=1).argmax())
            raise BadOptions(
                f"The text '{texts[worst][:40]}…' has {mask[worst].sum()} tokens; the model takes {self.longest} at "
                "most. Send a shorter label or template."
            )
        given = {"input_ids": numbers, "attention_mask": mask}
        return {name: given[name] for name in self.inputs} if isinstance(self.inputs, list | tuple) else given

    def read(self, outputs: Sequence[Tensor], frame: Frame, options: Options) -> Labels:
        picture, texts, shifts = (as_float32(output) for output in outputs)
        picture = picture.reshape(-1)
        likeness = texts @ (picture / np.linalg.norm(picture)) + shifts
        if not np.isfinite(likeness).all():
            raise RunFailed("The model answered with numbers that are not finite.")
        scores = self.activation(likeness)
        best = np.argsort(-scores, kind="stable")[: options.top_k]
        names = candidates(options)
        return Labels(best.astype(np.int32), scores[best], tuple(names[number] for number in best))


FAMILY = Clip


def candidates(options: Options) -> tuple[str, ...]:
    """The caller's labels.

    Raises:
        BadOptions: there are none or too many, or one of them says nothing or too much.
    """
    labels = options.candidate_labels
    if not labels:
        raise BadOptions("This model looks for what it is told. Tell it with candidate_labels, such as cat, dog.")
    if len(labels) > MOST_LABELS:
        raise BadOptions(f"candidate_labels has {len(labels)} labels; at most {MOST_LABELS} are allowed.")
    for label in labels:
        if not label.strip():
            raise BadOptions("One of candidate_labels is empty. Send labels that say something, such as cat, dog.")
        if len(label) > LONGEST_LABEL:
            raise BadOptions(f"The label '{label[:40]}…' is longer than {LONGEST_LABEL} characters.")
    return labels
