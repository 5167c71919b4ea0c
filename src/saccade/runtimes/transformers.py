"""Checkpoints opened as torch modules, with the classes of the transformers library.

Needs the extra ``saccade[transformers]``. Weights are safetensors only, code of a repository is never run, and no
network is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from saccade.card import Card
from saccade.errors import CorruptFiles, MissingExtra, UnsupportedModel
from saccade.offline import ELSEWHERE, kept_back, offline
from saccade.results import MaskKind
from saccade.runtimes import transformers_resnet

OUTPUTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "classify": (("logits",), ("last_hidden_state",)),
    "detect": (
        ("logits", "pred_boxes", "order_logits", "out_masks"),
        ("logits", "pred_boxes", "relative_order_logits", "successor_order_logits"),
        ("logits", "pred_boxes", "order_logits"),
        ("logits", "pred_boxes"),
    ),
    "segment": (("class_queries_logits", "masks_queries_logits"), ("logits", "pred_masks"), ("logits",)),
    "obb": (("last_hidden_state",),),
    "depth": (("predicted_depth", "field_of_view"), ("predicted_depth",)),
}
"""By task: the outputs that families read, in their order; the first set that a model has is taken. PP-LCNet gives its
logits as "last_hidden_state"; the detectors of document layouts say in which order their objects are read."""


def module(card: Card) -> Any:
    """A ``torch.nn.Module``: a picture (n, 3, h, w) float32 → the outputs that the card's family reads, a tuple.

    Raises:
        See :func:`whole`.
    """
    torch, _ = libraries()
    model = whole(card)
    front = FRONTS.get(model.config.model_type, Front)
    return wrapped(torch, model, front(torch, model, card), OUTPUTS[card.task])


def whole(card: Card) -> Any:
    """The model itself, an object of the class that its config.json names.

    Raises:
        MissingExtra: transformers or torch is not installed.
        UnsupportedModel: this transformers has no such architecture, or cannot open it.
        CorruptFiles: weights are missing, or do not fit the configuration.
    """
    _, transformers = libraries()
    name = architecture(card)
    kind = getattr(transformers, name, None)
    if kind is None:
        raise UnsupportedModel(
            f"'{card.name}' is of the architecture {name}, which transformers {transformers.__version__} does not have."
        )
    folder = Path(card.files[0]).parent
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        with offline():
            model, found = opened(kind, folder, card)
    except ImportError as error:
        missing = str(error).strip().splitlines()[0]
        raise UnsupportedModel(f"'{card.name}' needs a further library to be opened: {missing}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        if kept_back(error):
            raise elsewhere(card) from None
        reason = str(error).replace(str(folder), card.name).strip().splitlines()[0][:300]
        raise CorruptFiles(f"The weights of '{card.name}' cannot be opened: {reason}") from None
    if found["mismatched_keys"]:
        key, *shapes = min(found["mismatched_keys"])
        have, want = (str([*shape]) for shape in shapes)
        raise CorruptFiles(
            f"The weights of '{card.name}' do not fit its config.json: {key} has the shape {have}, and would have "
            f"{want} by the configuration. Correct config.json, most often id2label, or fetch both again."
        )
    if found["missing_keys"]:
        some = ", ".join(sorted(found["missing_keys"])[:3])
        raise CorruptFiles(f"'{card.name}' lacks {len(found['missing_keys'])} weights, such as {some}.")
    return model.eval().requires_grad_(False)


def architecture(card: Card) -> str:
    """The class that the checkpoint's config.json names."""
    config = card.config.get("config")
    names = config.get("architectures") if isinstance(config, dict) else None
    if not (isinstance(names, list) and names):
        raise UnsupportedModel(f"The config.json of '{card.name}' names no architecture.")
    return str(names[0])


def opened(kind: Any, folder: Path, card: Card) -> tuple[Any, dict[str, Any]]:
    """The model, and which weights were missing or left over."""
    facts = card.config.get("config")
    config = facts if isinstance(facts, dict) else {}
    more: dict[str, Any] = {}
    where: Path | None = folder
    if transformers_resnet.applies(config):
        files = [Path(file) for file in card.files if file.endswith(".safetensors")]
        more = {
            "config": kind.config_class.from_dict(transformers_resnet.rewritten(config)),
            "state_dict": transformers_resnet.weights(files),
        }
        where = None
    model, found = kind.from_pretrained(
        where,
        **more,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype="float32",
        ignore_mismatched_sizes=True,  # :func:`whole` refuses them, and says which
        output_loading_info=True,
    )
    return model, found


def elsewhere(card: Card) -> CorruptFiles:
    """What to say where a configuration names something that lies in another repository."""
    config = card.config.get("config")
    backbone = config.get("backbone") if isinstance(config, dict) else None
    which = f" (its config.json names the backbone '{backbone}')" if isinstance(backbone, str) else ""
    return CorruptFiles(f"'{card.name}'{which} {ELSEWHERE}.")


class Front:
    """From a picture (n, 3, h, w), and what its family makes besides, to what the model takes. Most families make
    nothing; DETRs that take pictures of one size are told by 1 and 0 (n, h, w) what of them is the picture."""

    def __init__(self, torch: Any, model: Any, card: Card) -> None:
        self.torch = torch

    def __call__(self, picture: Any, beside: Any) -> dict[str, Any]:
        if beside is None:
            return {"pixel_values": picture}
        return {"pixel_values": picture * beside[:, None], "pixel_mask": beside}


class Patches(Front):
    """SigLIP 2 "NaFlex" takes a picture cut up. It is not padded as its processor pads it, so nothing is masked, which
    gives the same features for less work."""

    def __init__(self, torch: Any, model: Any, card: Card) -> None:
        self.torch = torch
        self.side = int(model.config.vision_config.patch_size)

    def __call__(self, picture: Any, beside: Any) -> dict[str, Any]:
        count, channels, height, width = picture.shape
        high, wide = height // self.side, width // self.side
        pieces = picture.reshape(count, channels, high, self.side, wide, self.side).permute(0, 2, 4, 3, 5, 1)
        return {
            "pixel_values": pieces.reshape(count, high * wide, self.side * self.side * channels),
            "pixel_attention_mask": None,
            "spatial_shapes": self.torch.tensor([[high, wide]]),
        }


class Told(Front):
    """OneFormer is told in words what to do; ``beside`` (n, 1) are places in MaskKind."""

    def __init__(self, torch: Any, model: Any, card: Card) -> None:
        """
        Raises:
            CorruptFiles: the checkpoint lacks its tokenizer.
        """
        _, transformers = libraries()
        folder = Path(card.files[0]).parent
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (ImportError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).replace(str(folder), card.name).strip().splitlines()[0][:300]
            raise CorruptFiles(f"The tokenizer of '{card.name}' cannot be opened: {reason}") from None
        words = [f"the task is {subtask}" for subtask in get_args(MaskKind)]
        length = model.config.task_seq_len
        found = tokenizer(words, padding="max_length", max_length=length, return_tensors="pt")
        self.tokens = found["input_ids"]

    def __call__(self, picture: Any, beside: Any) -> dict[str, Any]:
        return {"pixel_values": picture, "task_inputs": self.tokens.to(picture.device)[beside[:, 0]]}


FRONTS: Mapping[str, type[Front]] = {"siglip2": Patches, "oneformer": Told}
"""By ``model_type``."""


def wrapped(torch: Any, model: Any, front: Front, choices: tuple[tuple[str, ...], ...]) -> Any:
    """The model with a tuple of outputs, as tracing wants it. It takes a picture, or by name what the checkpoint's own
    processor made."""

    class Head(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, picture: Any = None, beside: Any = None, **processed: Any) -> tuple[Any, ...]:
            given = processed if picture is None else front(picture, beside)
            answered = self.model(**given, return_dict=True)
            for names in choices:
                if all(answered.get(name) is not None for name in names):
                    return tuple(answered[name] for name in names)
            raise UnsupportedModel(f"The model answers with {', '.join(answered)}, which no family reads.")

    return Head().eval()


def libraries() -> tuple[Any, Any]:
    """torch and transformers."""
    try:
        return import_module("torch"), import_module("transformers")
    except ImportError:
        raise MissingExtra("Opening a checkpoint's own weights", extra="transformers") from None
