"""Keeps sizes of pictures a part of the graph while a module is traced.

torch traces what tensors do; a size that passes through a Python number on its way becomes a constant, and the graph
then answers nonsense, or fails, at any other size. The few places where models do that are replaced while tracing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, cast

TF_PADDED = ("mobilenet_v1", "mobilenet_v2")
CUT = ("depth_anything", "prompt_depth_anything")
"""Models that put the output's size through ``int``."""
ABSENT = object()


def convertible(checkpoint: Any) -> Any:
    """The module with the parts replaced that no graph can hold: EfficientNet's mean over the picture, which is
    written as a pool whose window is larger than any picture, and is the same number as the mean; SigLIP 2's
    loop over pictures of different sizes, where there is one picture; and padding that is left out where a size needs
    none (Swin and its kin), which other sizes would miss."""
    torch = import_module("torch")
    for part in checkpoint.modules():
        if hasattr(part, "maybe_pad"):
            part.maybe_pad = always_padded(part)
        if type(part).__name__ == "Siglip2VisionEmbeddings":
            part.resize_positional_embeddings = positions
        if type(part).__name__ == "EfficientNetModel" and isinstance(part.pooler, torch.nn.AvgPool2d):
            part.pooler = torch.nn.AdaptiveAvgPool2d(1)
    return checkpoint


def positions(known: Any, sizes: Any, max_length: int) -> Any:
    """Embeddings (height, width, d) of places as (1, places, d) for a picture of ``sizes`` (1, 2) patches."""
    resized = import_module("torch").nn.functional.interpolate(
        known.permute(2, 0, 1)[None],
        size=(sizes[0, 0], sizes[0, 1]),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    return resized.flatten(2).transpose(1, 2)


def always_padded(part: Any) -> Callable[..., Any]:
    """The part's ``maybe_pad`` that always pads, if only by nothing."""
    pad = import_module("torch").nn.functional.pad

    def patches(picture: Any, height: Any, width: Any) -> Any:
        down, across = part.patch_size
        return pad(picture, (0, -width % across, 0, -height % down))

    def even(features: Any, height: Any, width: Any) -> Any:
        return pad(features, (0, 0, 0, width % 2, 0, height % 2))

    own = part.maybe_pad

    def windows(features: Any, height: Any, width: Any) -> Any:
        padded, _ = own(features, height, width)
        return padded, (1,) * 6  # so that the padding is always cut off again

    for ending, way in (("PatchEmbeddings", patches), ("PatchMerging", even), ("Layer", windows)):
        if type(part).__name__.endswith(ending):
            return way
    return cast(Callable[..., Any], own)


@contextlib.contextmanager
def shapes_stay_traced() -> Iterator[None]:
    """While it holds, models may be traced with sizes that stay free."""
    torch = import_module("torch")
    places = [(torch, name, stacking(torch, getattr(torch, name))) for name in ("tensor", "as_tensor")]
    for name in TF_PADDED:
        module = import_module(f"transformers.models.{name}.modeling_{name}")
        places.append((module, "apply_tf_padding", tf_padding))
    for name in CUT:
        places.append((import_module(f"transformers.models.{name}.modeling_{name}"), "int", whole(torch)))
    kept = [(room, name, vars(room).get(name, ABSENT)) for room, name, _ in places]
    try:
        for room, name, replacement in places:
            setattr(room, name, replacement)
        yield
    finally:
        for room, name, original in kept:
            if original is ABSENT:
                delattr(room, name)
            else:
                setattr(room, name, original)


def stacking(torch: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """``torch.tensor([[height, width], …])`` that stacks traced sizes (deformable attention: Mask2Former, RT-DETR)."""

    def build(data: Any, *rest: Any, dtype: Any = None, device: Any = None, **more: Any) -> Any:
        if torch.jit.is_tracing() and isinstance(data, list | tuple) and traced(data):
            return stacked(data, dtype)
        return original(data, *rest, dtype=dtype, device=device, **more)

    def traced(data: Any) -> bool:
        if isinstance(data, list | tuple):
            return any(traced(item) for item in data)
        return isinstance(data, torch.Tensor)

    def stacked(data: Any, dtype: Any) -> Any:
        if isinstance(data, torch.Tensor):
            return data if dtype is None else data.to(dtype)
        if isinstance(data, list | tuple):
            return torch.stack([stacked(item, dtype) for item in data])
        return torch.scalar_tensor(data, dtype=dtype or (torch.long if isinstance(data, int) else torch.float32))

    return build


def whole(torch: Any) -> Callable[..., Any]:
    """``int`` that leaves a traced size traced."""

    def number(value: Any) -> Any:
        return value.long() if torch.jit.is_tracing() and isinstance(value, torch.Tensor) else int(value)

    return number


def tf_padding(features: Any, layer: Any) -> Any:
    """TensorFlow's "SAME" padding as MobileNets do it, without a choice that depends on the size:
    ``size % stride or stride`` is ``(size - 1) % stride + 1``."""
    sides: list[Any] = []
    for axis in (1, 0):
        size, kernel = features.shape[axis - 2], layer.kernel_size[axis]
        missing = kernel - ((size - 1) % layer.stride[axis] + 1)
        whole = missing.clamp(min=0) if hasattr(missing, "clamp") else max(missing, 0)
        before = whole // 2
        # MobileNetV1 has no dilated layers.
        sides += [before * layer.dilation[axis], (whole - before) * layer.dilation[axis]]
    return import_module("torch").nn.functional.pad(features, sides, "constant", 0.0)
