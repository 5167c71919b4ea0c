"""What the recipes of ``zoo.py`` share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

CLASSIFY, DETECT, SEGMENT = "image-classification", "object-detection", "image-segmentation"
DEPTH, TEXTS = "depth-estimation", "text-detection"
NAMES = {number: f"class {number}" for number in range(7)}
LABELS: dict[str, Any] = {"id2label": NAMES, "label2id": {label: number for number, label in NAMES.items()}}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SQUARE, SHORT = {"height": 64, "width": 64}, {"shortest_edge": 64}
EDGES = {"shortest_edge": 96, "longest_edge": 160}
LARGER = {"height": 96, "width": 96}
SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, **LABELS,
}  # fmt: skip
HGNET: dict[str, Any] = {
    "stem_channels": [3, 8, 16], "hidden_sizes": [16, 32, 64, 128], "stage_in_channels": [16, 16, 32, 64],
    "stage_mid_channels": [8, 8, 16, 16], "stage_out_channels": [16, 32, 64, 128], "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [3, 3, 3, 3],
}  # fmt: skip
DETR: dict[str, Any] = {
    "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "d_model": 32,
    "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_queries": 12, **LABELS,
}  # fmt: skip


class Recipe(NamedTuple):
    """``processor`` makes the image processor; None where the checkpoint's config.json describes it. ``words``: the
    model comes with a tokenizer."""

    task: str
    model: Callable[[], Any]
    processor: Callable[[], Any] | None
    words: bool = False


def processor(kind: str, **facts: Any) -> Callable[[], Any]:
    """The one that resizes with Pillow, where there is one."""

    def make() -> Any:
        import transformers as t

        return (getattr(t, f"{kind}ImageProcessorPil", None) or getattr(t, f"{kind}ImageProcessor"))(**facts)

    return make


def resnet(**facts: Any) -> Any:
    """A small backbone."""
    import transformers as t

    facts = {"out_features": STAGES, **facts}
    return t.ResNetConfig(embedding_size=8, hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], **facts)


square = partial(processor, size=SQUARE)
cut = partial(processor, size=SHORT, crop_size=SQUARE)
