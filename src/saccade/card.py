"""What is known of a model before it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

Task: TypeAlias = Literal["classify", "detect", "segment", "pose", "obb", "depth", "zero-shot-classify"]
"""``segment`` covers instance, panoptic and semantic segmentation: the result's ``kind`` tells them apart."""

if TYPE_CHECKING:
    Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
else:
    # msgspec cannot decode a type that names itself; Cards travel between processes.
    Json = Any


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A model's facts; everything that a family, a runtime or a listing needs, and no open file.

    ``files`` are absolute paths, the graph first; they never leave the server. ``labels`` maps class id to name;
    ``input_hw`` is the (height, width) of the graph's image input, or the training size of a dynamic graph.
    ``revision`` changes when the files change. ``config`` holds family facts: for a Hub model its ``config.json``
    under "config" and its ``preprocessor_config.json`` under "preprocessor", for an exported graph its own metadata
    under "metadata" (strings).
    """

    name: str
    task: Task
    family: str
    runtime: str
    files: tuple[str, ...] = ()
    labels: dict[int, str] = {}
    input_hw: tuple[int, int] | None = None
    dynamic: bool = False
    stride: int = 32
    keypoint_shape: tuple[int, int] | None = None
    revision: str = ""
    licence: str = "unknown"
    source: str = ""
    size_bytes: int = 0
    aliases: tuple[str, ...] = ()
    config: dict[str, Json] = {}


MASK = "pixel_mask"
"""The input of DETRs that tells which pixels are the picture's, (n, h, w) of 0 and 1."""


class Pixels(msgspec.Struct, frozen=True, kw_only=True):
    """A graph input that takes pictures: families hand over raw pixels, the runtime puts the arithmetic into the graph.

    The family supplies uint8 (n, height, width, 3) in RGB; the graph then swaps to ``order``, computes
    ``(x * scale - mean) / std`` per channel and transposes to ``layout``. ``mean`` and ``std`` are in the order of the
    graph's channels.
    """

    order: Literal["RGB", "BGR"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
