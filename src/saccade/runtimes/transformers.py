"""Checkpoints opened as torch modules, with the classes of the transformers library.

Needs the extra ``saccade[transformers]``. Weights are safetensors only, code of a repository is never run, and no
network is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from saccade.card import Card
from saccade.errors import CorruptFiles, MissingExtra, UnsupportedModel
from saccade.runtimes import transformers_resnet

OUTPUTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "classify": (("logits",),),
    "detect": (("logits", "pred_boxes"),),
    "segment": (("class_queries_logits", "masks_queries_logits"), ("logits", "pred_masks"), ("logits",)),
    "depth": (("predicted_depth",),),
}
"""By task: the outputs that families read, in their order; the first set that a model has is taken."""


def module(card: Card) -> Any:
    """A ``torch.nn.Module``: pixel_values (n, 3, h, w) float32 → the outputs that the card's family reads, a tuple.

    Raises:
        See :func:`whole`.
    """
    torch, _ = libraries()
    return wrapped(torch, whole(card), OUTPUTS[card.task])


def whole(card: Card) -> Any:
    """The model itself, an object of the class that its config.json names.

    Raises:
        MissingExtra: transformers or torch is not installed.
        UnsupportedModel: this transformers has no such architecture, or cannot open it.
        CorruptFiles: weights are missing.
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
        model, found = opened(kind, folder, card)
    except ImportError as error:
        missing = str(error).strip().splitlines()[0]
        raise UnsupportedModel(f"'{card.name}' needs a further library to be opened: {missing}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error).replace(str(folder), card.name).strip().splitlines()[0][:300]
        raise CorruptFiles(f"The weights of '{card.name}' cannot be opened: {reason}") from None
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
        output_loading_info=True,
    )
    return model, found


def wrapped(torch: Any, model: Any, choices: tuple[tuple[str, ...], ...]) -> Any:
    """The model with one input and a tuple of outputs, as tracing wants it."""

    class Head(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: Any, **more: Any) -> tuple[Any, ...]:
            answered = self.model(pixel_values=pixel_values, return_dict=True, **more)
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
