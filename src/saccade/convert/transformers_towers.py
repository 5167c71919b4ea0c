"""Models that compare pictures with texts (CLIP, SigLIP): their two halves as torch modules, and their tokenizer.

Whatever the checkpoint's tokenizer does, also in Python code of transformers, is written into one ``tokenizer.json``,
so that serving needs neither torch nor transformers.
"""

from __future__ import annotations

import string
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from saccade.card import Card
from saccade.convert.job import LABELS
from saccade.errors import CorruptFiles, UnsupportedModel
from saccade.runtimes.transformers import FRONTS, Front, libraries
from saccade.tokenizers import Tokenizer

SENTENCES = (
    *LABELS,
    "This is a photo of a cat.",
    "THE QUICK BROWN FOX",
    "many   blanks\tand\nlines ",
    "it's the dog's 2nd bone: 3.14 (or 1,000)!",
    "naïve café, Ærøskøbing, Straße",
    "猫と犬の写真",
    "фото кота",
    "a smiling face 😀 #happy @home",
    "under_score and-dash and/slash",
    "word " * 70,
)
"""On these the written tokenizer must agree with the checkpoint's own."""


def picture_tower(torch: Any, model: Any, card: Card) -> Any:
    """A module: a picture (1, 3, h, w) → (the picture's features,)."""
    front = FRONTS.get(model.config.model_type, Front)(torch, model, card)

    class Tower(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, picture: Any) -> tuple[Any, ...]:
            return (self.model.get_image_features(**front(picture, None)).pooler_output,)

    return Tower().eval()


def text_tower(torch: Any, model: Any) -> Any:
    """A module: input_ids (n, tokens), attention_mask if the tokenizer gives it → the texts' features (n, d) of the
    length ``exp(logit_scale)``, and what is to be added to each likeness (n,)."""

    class Tower(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any = None) -> tuple[Any, ...]:
            masked = {} if attention_mask is None else {"attention_mask": attention_mask}
            found = self.model.get_text_features(input_ids=input_ids, **masked).pooler_output
            features = found / found.norm(dim=-1, keepdim=True) * self.model.logit_scale.exp()
            shift = getattr(self.model, "logit_bias", None)
            nothing = torch.zeros_like(features[:, 0])
            return features, nothing if shift is None else nothing + shift

    return Tower().eval()


class Reference:
    """The checkpoint's own tokenizer, called as the pipeline of transformers calls it."""

    def __init__(self, card: Card, model: Any) -> None:
        """
        Raises:
            CorruptFiles: the checkpoint has no tokenizer that can be opened.
            UnsupportedModel: that needs a library which is not installed.
        """
        _, transformers = libraries()
        self.card = card
        folder = Path(card.files[0]).parent
        try:
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except ImportError as error:
            missing = str(error).strip().splitlines()[0]
            raise UnsupportedModel(f"The tokenizer of '{card.name}' needs a further library: {missing}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).replace(str(folder), card.name).strip().splitlines()[0][:300]
            raise CorruptFiles(f"The tokenizer of '{card.name}' cannot be opened: {reason}") from None
        self.inputs = tuple(
            name for name in ("input_ids", "attention_mask") if name in self.tokenizer.model_input_names
        )
        self.padding: dict[str, Any] = {"padding": True}
        if "siglip" in model.config.model_type:
            self.padding = {"padding": "max_length", "max_length": 64, "truncation": True}

    def __call__(self, texts: tuple[str, ...]) -> tuple[Any, ...]:
        """The tensors of :attr:`inputs`."""
        found = self.tokenizer(list(texts), return_tensors="pt", **self.padding)
        return tuple(found[name] for name in self.inputs)

    def write(self, path: Path) -> None:
        """Writes the file from which the tokenizers library alone does the same.

        Raises:
            UnsupportedModel: it does not do the same.
        """
        expected = self(SENTENCES)  # which also sets cutting and padding
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        made = unigram(self.tokenizer, self.padding["max_length"]) if backend is None else backend
        made.save(str(path))
        found = dict(zip(("input_ids", "attention_mask"), Tokenizer(path)(SENTENCES), strict=True))
        if not all(np.array_equal(found[name], numbers) for name, numbers in zip(self.inputs, expected, strict=True)):
            raise UnsupportedModel(
                f"The tokenizer of '{self.card.name}' ({type(self.tokenizer).__name__}) could not be written down in a "
                "form that gives the same tokens."
            )


def unigram(reference: Any, length: int) -> Any:
    """SigLIP's own tokenizer, a SentencePiece model behind a few lines of Python, for the tokenizers library."""
    library, pieces = import_module("tokenizers"), import_module("sentencepiece.sentencepiece_model_pb2").ModelProto()
    pieces.ParseFromString(Path(reference.vocab_file).read_bytes())
    normalizers = library.normalizers
    marks = "".join("\\" + sign for sign in string.punctuation)
    steps = [normalizers.Lowercase()] if reference.do_lower_case else []
    steps += [
        normalizers.Replace(library.Regex(f"[{marks}]"), ""),
        normalizers.Replace(library.Regex(r"\s+"), " "),
        normalizers.Strip(),
    ]
    if pieces.normalizer_spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(pieces.normalizer_spec.precompiled_charsmap))
    steps.append(normalizers.Replace(library.Regex(" {2,}"), " "))
    made = library.Tokenizer(
        library.models.Unigram(
            [(piece.piece, piece.score) for piece in pieces.pieces],
            unk_id=pieces.trainer_spec.unk_id,
            byte_fallback=pieces.trainer_spec.byte_fallback,
        )
    )
    made.normalizer = normalizers.Sequence(steps)
    made.pre_tokenizer = library.pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    end = (reference.eos_token, reference.eos_token_id)
    made.post_processor = library.processors.TemplateProcessing(single=f"$A {end[0]}", special_tokens=[end])
    made.enable_truncation(length)
    made.enable_padding(length=length, pad_id=reference.pad_token_id, pad_token=reference.pad_token)
    return made
