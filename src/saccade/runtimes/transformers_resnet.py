"""DETRs whose backbone is a ResNet of timm, opened without timm.

The published DETR, Conditional DETR and Table Transformer weights name their backbone's parts as timm does, and
transformers then asks for timm, which asks for torchvision. The ResNet of transformers is the same network under other
names (it is how the "no_timm" revisions of these repositories were made).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

PLACE = "conv_encoder.model."
DETRS = ("conditional_detr", "dab-detr", "deformable_detr", "detr", "table-transformer")
"""By ``model_type``: who keeps its backbone there; whatever else has one of timm's needs timm."""
DEPTHS: Mapping[str, tuple[str, list[int], list[int]]] = {
    "resnet18": ("basic", [2, 2, 2, 2], [64, 128, 256, 512]),
    "resnet34": ("basic", [3, 4, 6, 3], [64, 128, 256, 512]),
    "resnet50": ("bottleneck", [3, 4, 6, 3], [256, 512, 1024, 2048]),
    "resnet101": ("bottleneck", [3, 4, 23, 3], [256, 512, 1024, 2048]),
    "resnet152": ("bottleneck", [3, 8, 36, 3], [256, 512, 1024, 2048]),
}
"""Name → kind of layer, layers a stage, channels a stage."""
NAMES = (
    (re.compile(r"conv1\.(\w+)"), r"embedder.embedder.convolution.\1"),
    (re.compile(r"bn1\.(\w+)"), r"embedder.embedder.normalization.\1"),
    (re.compile(r"layer(\d)\.(\d+)\.conv(\d)\.(\w+)"), r"encoder.stages.<\1>.layers.\2.layer.<\3>.convolution.\4"),
    (re.compile(r"layer(\d)\.(\d+)\.bn(\d)\.(\w+)"), r"encoder.stages.<\1>.layers.\2.layer.<\3>.normalization.\4"),
    (re.compile(r"layer(\d)\.(\d+)\.downsample\.0\.(\w+)"), r"encoder.stages.<\1>.layers.\2.shortcut.convolution.\3"),
    (re.compile(r"layer(\d)\.(\d+)\.downsample\.1\.(\w+)"), r"encoder.stages.<\1>.layers.\2.shortcut.normalization.\3"),
)
"""timm's names → those of transformers; numbers in <> count from 0 there."""


def applies(config: Mapping[str, Any]) -> bool:
    """Whether the checkpoint has such a backbone; a dilated one is timm's alone."""
    return config.get("model_type") in DETRS and backbone(config) in DEPTHS and not config.get("dilation")


def backbone(config: Mapping[str, Any]) -> str:
    """timm's name of the backbone, "" if it is none of timm's."""
    written = config.get("backbone_config")
    if isinstance(written, Mapping):
        return str(written.get("backbone", "")) if written.get("model_type") == "timm_backbone" else ""
    return str(config.get("backbone") or "resnet50") if config.get("use_timm_backbone", "backbone" in config) else ""


def rewritten(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the ResNet of transformers."""
    kind, depths, channels = DEPTHS[backbone(config)]
    first = 2 if config.get("model_type") == "deformable_detr" else 1
    return {
        **config,
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "backbone": None,
        "backbone_kwargs": None,
        "backbone_config": {
            "model_type": "resnet",
            "layer_type": kind,
            "depths": depths,
            "hidden_sizes": channels,
            "out_features": [f"stage{number}" for number in range(first, 5)],
        },
    }


def renamed(key: str) -> str:
    """A weight's name for the ResNet of transformers; names outside the backbone stay."""
    before, place, inside = key.partition(PLACE)
    if not place:
        return key
    for pattern, target in NAMES:
        if pattern.fullmatch(inside):
            counted = re.sub(r"<(\d)>", lambda match: str(int(match[1]) - 1), pattern.sub(target, inside))
            return before + place + counted
    return key


def weights(files: list[Path]) -> dict[str, Any]:
    """All weights of a checkpoint under their new names."""
    load = import_module("safetensors.torch").load_file
    return {renamed(key): tensor for file in files for key, tensor in load(file).items()}
