"""Pictures made ready as a Hub model's ``preprocessor_config.json`` says.

The pixels are those of the Pillow backend of transformers 5.23 (``models/*/image_processing_pil_*.py``): resize with
Pillow on bytes, crop or pad in the middle, and only then the arithmetic, which the runtime puts into the graph. The
torchvision backend, which transformers prefers where torchvision is installed, resizes slightly differently; it is
followed for the classes that have no other (TORCHVISION).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.card import MASK, Pixels
from saccade.errors import TooLarge, UnsupportedModel
from saccade.ops import antialias
from saccade.ops.resize import Frame
from saccade.results import ByteArray

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
NEAREST, LANCZOS, BILINEAR, BICUBIC, BOX, HAMMING = range(6)
"""Pillow's numbers of its resampling filters, which the configurations use."""
SHORT_800 = {"shortest_edge": 800, "longest_edge": 1333}
MOST_ENLARGED = 2**23
"""Pixels that are made of a picture whose short side is brought to a size: a ribbon of 1 by 5000 would grow to a
thousand million, and one of 800 by 80000, a small file when it has one colour, would still be 26 million."""


def kind(
    resample: int,
    size: dict[str, int] | None,
    normal: tuple[tuple[float, ...], tuple[float, ...]] | None,
    crop: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The defaults of one processor class; ``crop`` None: it does not crop unless told to."""
    mean, std = normal or HALF
    return {
        "do_resize": True,
        "size": size,
        "resample": resample,
        "do_center_crop": crop is not None,
        "crop_size": {"height": crop or 224, "width": crop or 224},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": normal is not None,
        "image_mean": mean,
        "image_std": std,
        "do_pad": False,
        "pad_size": None,
        "do_convert_rgb": False,
        "default_to_square": size is None or "height" in size,
        **more,
    }


def square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def short(side: int) -> dict[str, int]:
    return {"shortest_edge": side}


DETR = kind(BILINEAR, SHORT_800, IMAGENET, max_size=1333, do_pad=True)
KINDS: Mapping[str, Mapping[str, Any]] = {
    "ViT": kind(BILINEAR, square(224), HALF),
    "DeiT": kind(BICUBIC, square(256), HALF, 224),
    "Beit": kind(BICUBIC, square(224), HALF),
    "ConvNext": kind(BICUBIC, short(384), HALF, crop_pct=224 / 256),
    "Bit": kind(BICUBIC, short(224), CLIP, 224, do_convert_rgb=True),
    "MobileNetV1": kind(BILINEAR, short(256), HALF, 224),
    "MobileNetV2": kind(BILINEAR, short(256), HALF, 224),
    "MobileViT": kind(BICUBIC, short(224), None, 256, do_flip_channel_order=True),
    "EfficientNet": kind(BICUBIC, square(346), HALF, crop_size=square(289), rescale_offset=False, include_top=True),
    "Levit": kind(BICUBIC, short(224), IMAGENET, 224),
    "PoolFormer": kind(BICUBIC, short(224), IMAGENET, 224, crop_pct=0.9),
    "Perceiver": kind(BICUBIC, square(224), IMAGENET, 256),
    "Pvt": kind(BICUBIC, square(224), IMAGENET),
    "TextNet": kind(BILINEAR, short(640), IMAGENET, size_divisor=32, do_convert_rgb=True),
    "CLIP": kind(BICUBIC, short(224), CLIP, 224, use_square_size=False, do_convert_rgb=True),
    "ChineseCLIP": kind(BICUBIC, short(224), CLIP, 224, do_convert_rgb=True),
    "Siglip": kind(BICUBIC, square(224), HALF, default_to_square=False, do_convert_rgb=True),
    "Siglip2": kind(BILINEAR, None, HALF, patch_size=16, max_num_patches=256),
    "Blip": kind(BICUBIC, square(384), CLIP, do_convert_rgb=True),
    "Segformer": kind(BILINEAR, square(512), IMAGENET),
    "Detr": DETR,
    "ConditionalDetr": DETR,
    "DeformableDetr": DETR,
    "Yolos": DETR,
    "RfDetr": kind(BILINEAR, SHORT_800, IMAGENET, max_size=1333, do_pad=True),
    "RTDetr": kind(BILINEAR, square(640), IMAGENET, default_to_square=False, do_normalize=False),
    "Mask2Former": kind(BILINEAR, SHORT_800, IMAGENET, max_size=None, size_divisor=32),
    "MaskFormer": kind(BILINEAR, SHORT_800, IMAGENET, max_size=None, size_divisor=32),
    "OneFormer": kind(BILINEAR, SHORT_800, IMAGENET, do_convert_rgb=True),
    "Eomt": kind(BILINEAR, {"shortest_edge": 640, "longest_edge": 640}, IMAGENET, do_split_image=False),
    "DPT": kind(BICUBIC, square(384), HALF, ensure_multiple_of=1, keep_aspect_ratio=False),
    "GLPN": kind(BILINEAR, None, None, size_divisor=32),
    "TimmWrapper": kind(BICUBIC, short(224), IMAGENET, 224),
    "PPLCNet": kind(
        BILINEAR,
        square(256),
        ((0.406, 0.456, 0.485), (0.225, 0.224, 0.229)),
        224,
        resize_short=256,
        size_divisor=1,
        do_flip_channel_order=True,
    ),
    "PPOCRV5ServerDet": kind(
        BILINEAR,
        square(960),
        ((0.406, 0.456, 0.485), (0.225, 0.224, 0.229)),
        limit_side_len=960,
        limit_type="max",
        max_side_limit=4000,
        do_flip_channel_order=True,
    ),
    "Sapiens2": kind(BILINEAR, {"height": 1024, "width": 768}, IMAGENET),
    "Tipsv2Dpt": kind(BILINEAR, square(448), None, do_convert_rgb=True),
}
"""Processor classes and their defaults; what the configuration says wins where the class knows the word."""
TORCHVISION = frozenset({"PPLCNet", "Sapiens2", "Tipsv2Dpt"})
"""Those whose pictures torchvision resizes."""
MASKED = frozenset({"Detr", "ConditionalDetr", "DeformableDetr"})
"""Those whose models are told which pixels are the picture's where it is padded to one size (``pad_size``). What is
padded is 0 after the arithmetic, or as near to it as bytes come; a graph that was made here makes it 0."""
PADDING = frozenset({"Mask2Former", "MaskFormer"})
"""Those that pad to ``pad_size`` whatever ``do_pad`` says."""

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ImageProcessor:
    """How pictures of one model are prepared. Thread-safe.

    ``facts`` are the configuration over the defaults of its ``kind``; sizes in them are dictionaries.
    """

    kind: str
    facts: Mapping[str, Any]

    def pixels(self) -> dict[str, Pixels]:
        """The arithmetic that follows :meth:`__call__`, for the graph's image input."""
        return {"": arithmetic(self.facts)}

    def __call__(self, image_rgb: ByteArray) -> tuple[dict[str, NDArray[Any]], Frame]:
        """The network's input as bytes (1, h, w, 3) RGB, what else it takes by name, and the way back."""
        if self.kind == "Perceiver":
            inside = self.resized(self.cropped(image_rgb))
        else:
            inside = self.cropped(self.resized(image_rgb))
        prepared = self.padded(inside)
        hw, input_hw = size_of(image_rgb), size_of(prepared)
        tensors: dict[str, NDArray[Any]] = {"": prepared[None]}
        if self.masks:
            tensors[MASK] = np.zeros((1, *input_hw), np.int64)
            tensors[MASK][:, : inside.shape[0], : inside.shape[1]] = 1
        return tensors, Frame(hw, input_hw, input_hw[1] / hw[1], input_hw[0] / hw[0])

    def resized(self, image_rgb: ByteArray) -> ByteArray:
        """The picture at its target size.

        Raises:
            TooLarge: it is a ribbon, and no crop follows that would keep only its middle.
        """
        hw = size_of(image_rgb)
        target = self.target(hw)
        follows = self.target((2 * hw[0], 2 * hw[1])) != target  # the picture's own size, which is bounded elsewhere
        most = max(MOST_ENLARGED, math.prod(hw) if follows else 0, math.prod(self.target((1, 1))))
        if self.crop(target) is None and math.prod(target) > most:
            raise TooLarge(
                f"the picture of {hw[1]}x{hw[0]} is so long and narrow that this model would look at it in "
                f"{target[1]}x{target[0]} ({math.prod(target) / 1e6:.1f} megapixels); at most "
                f"{most / 1e6:.1f} megapixels are made of it: cut it into pieces"
            )
        if self.kind in TORCHVISION:
            return antialias.picture(image_rgb, target)
        return resize(image_rgb, target, self.facts["resample"])

    def target(self, hw: Size) -> Size:
        """The size to which a picture of this size is resized."""
        found = RESIZES.get(self.kind, plain)(hw, self.facts) if self.facts["do_resize"] else hw
        return max(found[0], 1), max(found[1], 1)

    def crop(self, hw: Size) -> Size | None:
        """The size of the middle that is kept of a picture of this size; None: all of it."""
        return CROPS.get(self.kind, configured_crop)(hw, self.facts)

    def prepared_hw(self, hw: Size) -> Size:
        """The size at which a picture of this size leaves :meth:`__call__`."""
        if self.kind == "Perceiver":
            return self.target(self.crop(hw) or hw)
        target = self.target(hw)
        height, width = self.crop(target) or target
        return (max(height, edges[0]), max(width, edges[1])) if (edges := self.padding) else (height, width)

    def cropped(self, image_rgb: ByteArray) -> ByteArray:
        target = self.crop(size_of(image_rgb))
        if target is not None and self.kind == "TimmWrapper":
            return timm_crop(image_rgb, target, self.facts["fill"])
        return image_rgb if target is None else centre_crop(image_rgb, target)

    @property
    def padding(self) -> Size | None:
        """The size that pictures are padded to."""
        if not self.facts["do_pad"]:
            return None
        if self.kind in MASKED and (size := self.facts["pad_size"]):
            return size["height"], size["width"]
        if self.kind != "Eomt":
            return None
        edge = self.facts["size"]
        return edge["shortest_edge"], edge.get("longest_edge") or edge["shortest_edge"]

    @property
    def do_convert_rgb(self) -> bool:
        """Whether a picture's clear colour is laid on white before it comes here."""
        return bool(self.facts["do_convert_rgb"])

    @property
    def masks(self) -> bool:
        """Whether :data:`MASK` is told."""
        return self.kind in MASKED and self.padding is not None

    def padded(self, image_rgb: ByteArray) -> ByteArray:
        """Filled up at the right and the bottom, to be black before the arithmetic or after it.

        Raises:
            TooLarge: it is larger than a model that takes one size makes it.
        """
        if self.padding is None:
            return image_rgb
        height, width = self.padding
        missing = (max(0, height - image_rgb.shape[0]), max(0, width - image_rgb.shape[1]))
        if self.kind in MASKED and (image_rgb.shape[0] > height or image_rgb.shape[1] > width):
            raise TooLarge(
                f"this model looks at the picture in {image_rgb.shape[1]}x{image_rgb.shape[0]}, and its "
                f"preprocessor_config.json pads pictures to {width}x{height} (pad_size), which is smaller"
            )
        canvas = np.pad(image_rgb, ((0, missing[0]), (0, missing[1]), (0, 0)))
        if self.kind in MASKED:
            pixels = arithmetic(self.facts)
            black = np.clip(np.rint(np.divide(pixels.mean, pixels.scale)), 0, 255).astype(np.uint8)
            canvas[image_rgb.shape[0] :] = canvas[:, image_rgb.shape[1] :] = black
        return canvas


def of(config: Mapping[str, Any] | None, otherwise: str = "ViT", input_hw: Size | None = None) -> ImageProcessor:
    """The processor that a ``preprocessor_config.json`` describes; ``otherwise`` is the kind where it names none.

    ``input_hw`` is the size that the graph takes, if that is known: it counts where there is no configuration.

    Raises:
        UnsupportedModel: it names a class that is not known here, or a value in it makes no sense.
    """
    try:
        made = described(config, otherwise, input_hw)
        made.pixels()
        made.target((97, 101))
        Image.Resampling(made.facts["resample"])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, ZeroDivisionError) as error:
        raise UnsupportedModel(
            f"The model's preprocessor_config.json cannot be used ({type(error).__name__}: {error}). Compare its "
            "sizes, means and filters with those of the repository that it comes from."
        ) from error
    return made


def described(config: Mapping[str, Any] | None, otherwise: str, input_hw: Size | None) -> ImageProcessor:
    """See :func:`of`; senseless values raise whatever they bring about."""
    config = config or ({"size": {"height": input_hw[0], "width": input_hw[1]}} if input_hw else {})
    name = kind_of(config) or otherwise
    if name not in KINDS:
        raise UnsupportedModel(
            f"The model's pictures are prepared by {name}ImageProcessor, which is not known here. Known are: "
            f"{', '.join(sorted(KINDS))}."
        )
    if name == "TimmWrapper":
        return timm(config)
    defaults = KINDS[name]
    said = {key: value for key, value in config.items() if value is not None or is_switch(key)}
    facts = {**defaults, **{key: value for key, value in said.items() if key in defaults}}
    if name == "MobileViT":
        facts["do_normalize"] = False
    if name in ("PPLCNet", "PPOCRV5ServerDet"):
        # It normalises before it turns the channels round, which it always does.
        facts["do_flip_channel_order"] = True
        facts["image_mean"], facts["image_std"] = triple(facts["image_mean"])[::-1], triple(facts["image_std"])[::-1]
    unsupported(name, facts)
    if facts.get("use_square_size"):
        facts["size"] = square(224)
    is_square = facts["default_to_square"] and "max_size" not in defaults
    facts["size"] = sizes(facts["size"], is_square, facts.get("max_size"))
    if name == "TextNet":
        facts["size"].pop("longest_edge", None)  # it makes the shorter side of its size, however long the other gets
    facts["crop_size"], facts["pad_size"] = (sizes(facts[key], True, None) for key in ("crop_size", "pad_size"))
    return ImageProcessor(name, facts)


def is_switch(key: str) -> bool:
    """Whether null means off; elsewhere it stands for the default."""
    return key.startswith("do_") or key == "include_top"


def kind_of(config: Mapping[str, Any]) -> str | None:
    """ "ViT" of "ViTImageProcessor", "ViTFeatureExtractor" (before 2022), "ViTImageProcessorFast" or "…Pil"."""
    written = config.get("image_processor_type") or config.get("feature_extractor_type")
    if not isinstance(written, str):
        return "TimmWrapper" if "pretrained_cfg" in config else None
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        written = written.removesuffix(ending)
    return written


def unsupported(name: str, facts: Mapping[str, Any]) -> None:
    """Raises UnsupportedModel for the rare choices whose pixels are not reproduced here."""
    if facts.get("do_split_image"):
        raise UnsupportedModel("The model cuts a picture into several (do_split_image), which is not done here.")
    if name == "DPT" and facts["do_pad"]:
        raise UnsupportedModel("The model pads with the mean colour (do_pad of DPT), which is not done here.")
    if name in TORCHVISION and facts["resample"] != BILINEAR:
        raise UnsupportedModel("The model resizes otherwise than bilinearly with torchvision, which is not done here.")
    if name == "Sapiens2" and facts["do_pad"]:
        raise UnsupportedModel("The model pads its pictures (do_pad of Sapiens2), which is not done here.")
    if facts["pad_size"] and (facts["do_pad"] or name in PADDING) and name not in MASKED:
        raise UnsupportedModel("The model pads with the mean colour (pad_size), which is not done here.")


def sizes(written: Any, is_square: bool, longest: int | None) -> dict[str, int]:
    """A size as a dictionary: old configurations write one number or a pair."""
    if isinstance(written, bool) or written is None:
        return {}
    if isinstance(written, int | float):
        side = int(written)
        return square(side) if is_square else {**short(side), **({"longest_edge": longest} if longest else {})}
    if isinstance(written, list | tuple) and len(written) == 2:
        return {"height": int(written[0]), "width": int(written[1])}
    if not isinstance(written, Mapping):
        raise UnsupportedModel(f"The size in preprocessor_config.json is {written!r}; expected a number or an object.")
    found = {str(key): int(value) for key, value in written.items() if value is not None}
    if set(found) == {"longest_edge"}:
        return {"shortest_edge": found["longest_edge"], **found}
    if set(found) == {"shortest_edge"} and longest:
        return {**found, "longest_edge": longest}
    return found


def arithmetic(facts: Mapping[str, Any]) -> Pixels:
    """Rescaling and normalising as one step, (x * scale - mean) / std."""
    scale = float(facts["rescale_factor"]) if facts["do_rescale"] else 1.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if facts["do_normalize"]:
        mean, std = triple(facts["image_mean"]), triple(facts["image_std"])
    if facts.get("include_top"):
        again = triple(facts["image_std"])
        std = (std[0] * again[0], std[1] * again[1], std[2] * again[2])
    if facts.get("rescale_offset") and facts["do_rescale"]:
        mean = (mean[0] + 1, mean[1] + 1, mean[2] + 1)
    if scale == 0 or 0 in std:
        raise ValueError("a rescale_factor or image_std of 0")
    if facts.get("do_flip_channel_order"):
        return Pixels(order="BGR", scale=scale, mean=mean, std=std)
    return Pixels(scale=scale, mean=mean, std=std)


def triple(written: Any) -> tuple[float, float, float]:
    values = [float(written)] * 3 if isinstance(written, int | float) else [float(value) for value in written]
    if len(values) != 3:
        raise UnsupportedModel(f"The model takes pictures of {len(values)} channels; only colour (3) is supported.")
    return values[0], values[1], values[2]


def size_of(image: NDArray[Any]) -> Size:
    return image.shape[0], image.shape[1]


def resize(image_rgb: ByteArray, hw: Size, resample: int) -> ByteArray:
    """Pillow's antialiased resize."""
    if size_of(image_rgb) == hw:
        return image_rgb
    picture = Image.fromarray(np.ascontiguousarray(image_rgb))
    return np.asarray(picture.resize((hw[1], hw[0]), resample=Image.Resampling(resample)))


def centre_crop(image: ByteArray, hw: Size) -> ByteArray:
    """The middle, or the image in the middle of black; odd differences round as transformers rounds them."""
    (height, width), (high, wide) = size_of(image), hw
    top, left = (height - high) // 2, (width - wide) // 2
    if top >= 0 and left >= 0:
        return image[top : top + high, left : left + wide]
    canvas = np.zeros((max(high, height), max(wide, width), 3), np.uint8)
    down, right = math.ceil((canvas.shape[0] - height) / 2), math.ceil((canvas.shape[1] - width) / 2)
    canvas[down : down + height, right : right + width] = image
    top, left = top + down, left + right
    return canvas[max(0, top) : top + high, max(0, left) : left + wide]


def plain(hw: Size, facts: Mapping[str, Any]) -> Size:
    """The size that most processors resize to."""
    size = facts["size"]
    if size.get("shortest_edge") and size.get("longest_edge"):
        return within(hw, size["shortest_edge"], size["longest_edge"])
    if size.get("shortest_edge"):
        return shortest(hw, size["shortest_edge"])
    if size.get("max_height") and size.get("max_width"):
        scale = min(size["max_height"] / hw[0], size["max_width"] / hw[1])
        return int(hw[0] * scale), int(hw[1] * scale)
    if size.get("height") and size.get("width"):
        return size["height"], size["width"]
    raise UnsupportedModel(f"The size in preprocessor_config.json has the keys {sorted(size)}, which say no size.")


def shortest(hw: Size, edge: int) -> Size:
    """The shorter side becomes ``edge``; the other is truncated."""
    height, width = hw
    if width <= height:
        return int(edge * height / width), edge
    return edge, int(edge * width / height)


def within(hw: Size, edge: int, longest: int) -> Size:
    """The shorter side becomes ``edge`` unless the longer would pass ``longest``, which it then becomes.

    The mixture of rounding and truncation is that of ``get_size_with_aspect_ratio``; boxes move by a pixel otherwise.
    """
    height, width = hw
    exact: float = edge
    if max(hw) / min(hw) * edge > longest:
        exact = longest * float(min(hw)) / max(hw)
        edge = round(exact)
    if (height <= width and height == edge) or (width <= height and width == edge):
        return hw
    if width < height:
        return int(exact * height / width), edge
    return edge, int(exact * width / height)


def yolos(hw: Size, facts: Mapping[str, Any]) -> Size:
    """As :func:`within`, cut to multiples of 16."""
    size = facts["size"]
    if not (size.get("shortest_edge") and size.get("longest_edge")):
        return plain(hw, facts)
    height, width = within(hw, size["shortest_edge"], size["longest_edge"])
    return height - height % 16, width - width % 16


def divisible(hw: Size, facts: Mapping[str, Any]) -> Size:
    """Rounded up to multiples of ``size_divisor`` (the picture is stretched, not padded)."""
    height, width = plain(hw, facts)
    step = facts.get("size_divisor") or 1
    return math.ceil(height / step) * step, math.ceil(width / step) * step


def convnext(hw: Size, facts: Mapping[str, Any]) -> Size:
    """Below 384: larger by 1 / crop_pct, to be cropped; from 384 on: squashed."""
    edge = facts["size"].get("shortest_edge") or facts["size"].get("height")
    return (edge, edge) if edge >= 384 else shortest(hw, int(edge / facts["crop_pct"]))


def convnext_crop(hw: Size, facts: Mapping[str, Any]) -> Size | None:
    edge = facts["size"].get("shortest_edge") or facts["size"].get("height")
    if facts["do_resize"] and edge < 384:
        return edge, edge
    return configured_crop(hw, facts)


def pplcnet(hw: Size, facts: Mapping[str, Any]) -> Size:
    """The shorter side becomes ``resize_short``; both are rounded, then up to whole multiples."""
    step, scale = facts["size_divisor"] or 1, facts["resize_short"] / min(hw)
    return math.ceil(round(hw[0] * scale) / step) * step, math.ceil(round(hw[1] * scale) / step) * step


def levit(hw: Size, facts: Mapping[str, Any]) -> Size:
    edge = facts["size"].get("shortest_edge")
    return shortest(hw, int((256 / 224) * edge)) if edge else plain(hw, facts)


def poolformer(hw: Size, facts: Mapping[str, Any]) -> Size:
    """Larger by 1 / crop_pct, to be cropped."""
    size, part = facts["size"], facts["crop_pct"]
    if size.get("shortest_edge"):
        return shortest(hw, int(size["shortest_edge"] / part))
    if size["height"] == size["width"]:
        return shortest(hw, int(size["height"] / part))
    return int(size["height"] / part), int(size["width"] / part)


def dpt(hw: Size, facts: Mapping[str, Any]) -> Size:
    """To the size or, keeping the aspect, as little away from the picture's as possible, in whole multiples."""
    size, step = facts["size"], facts["ensure_multiple_of"] or 1
    down, across = size["height"] / hw[0], size["width"] / hw[1]
    if facts["keep_aspect_ratio"]:
        down = across = across if abs(1 - across) < abs(1 - down) else down
    return round(down * hw[0] / step) * step or step, round(across * hw[1] / step) * step or step


def glpn(hw: Size, facts: Mapping[str, Any]) -> Size:
    """Down to whole multiples; a picture below one multiple is stretched to it, where transformers fails."""
    step = facts["size_divisor"]
    return max(hw[0] // step, 1) * step, max(hw[1] // step, 1) * step


def patches(hw: Size, facts: Mapping[str, Any]) -> Size:
    """SigLIP 2 "NaFlex": as large as ``max_num_patches`` whole patches allow, each side rounded up.

    The scale is found as transformers finds it, by halving an interval; another way ends at other sizes.
    """
    side, most = facts["patch_size"], facts["max_num_patches"]

    def scaled(scale: float) -> Size:
        height, width = (max(side, math.ceil(edge * scale / side) * side) for edge in hw)
        return height, width

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        scale = (low + high) / 2
        height, width = scaled(scale)
        if (height / side) * (width / side) <= most:
            low = scale
        else:
            high = scale
    return scaled(low)


def perceiver_crop(hw: Size, facts: Mapping[str, Any]) -> Size | None:
    """Before the resize: the share of the shorter side that size is of crop_size."""
    if not facts["do_center_crop"]:
        return None
    size, crop, side = facts["size"], facts["crop_size"], min(hw)
    return int(size["height"] / crop["height"] * side), int(size["width"] / crop["width"] * side)


def configured_crop(hw: Size, facts: Mapping[str, Any]) -> Size | None:
    crop = facts["crop_size"]
    return (crop["height"], crop["width"]) if facts["do_center_crop"] else None


def never(hw: Size, facts: Mapping[str, Any]) -> Size | None:
    return None


def timm_resize(hw: Size, facts: Mapping[str, Any]) -> Size:
    """ "squash": to the size. "border": inside it. Otherwise: around it."""
    size = facts["size"]["height"], facts["size"]["width"]
    if facts["crop_mode"] == "squash":
        return size
    if facts["crop_mode"] != "border" and size[0] == size[1]:
        return shortest(hw, size[0])
    ratios = hw[0] / size[0], hw[1] / size[1]
    ratio = max(ratios) if facts["crop_mode"] == "border" else min(ratios)
    return round(hw[0] / ratio), round(hw[1] / ratio)


def timm_crop(image: ByteArray, hw: Size, fill: tuple[int, int, int]) -> ByteArray:
    """The middle as torchvision cuts it; what is missing is filled."""
    missing = [max(0, wanted - found) for wanted, found in zip(hw, size_of(image), strict=True)]
    if any(missing):
        (down, across), (height, width) = missing, size_of(image)
        canvas = np.full((height + down, width + across, 3), fill, np.uint8)
        canvas[down // 2 : down // 2 + height, across // 2 : across // 2 + width] = image
        image = canvas
    top, left = (round((found - wanted) / 2) for found, wanted in zip(size_of(image), hw, strict=True))
    return image[top : top + hw[0], left : left + hw[1]]


RESIZES: Mapping[str, Callable[[Size, Mapping[str, Any]], Size]] = {
    "Yolos": yolos,
    "Mask2Former": divisible,
    "MaskFormer": divisible,
    "TextNet": divisible,
    "ConvNext": convnext,
    "Levit": levit,
    "PoolFormer": poolformer,
    "DPT": dpt,
    "GLPN": glpn,
    "Siglip2": patches,
    "TimmWrapper": timm_resize,
    "PPLCNet": pplcnet,
}
CROPS: Mapping[str, Callable[[Size, Mapping[str, Any]], Size | None]] = {
    "ConvNext": convnext_crop,
    "Perceiver": perceiver_crop,
    **dict.fromkeys(
        ("Segformer", "DPT", "GLPN", "Detr", "ConditionalDetr", "DeformableDetr", "Yolos", "RTDetr"), never
    ),
    **dict.fromkeys(("Mask2Former", "MaskFormer", "OneFormer", "Eomt"), never),
}
"""Where a class has its own way; processors of detection and segmentation ignore the crop keys."""


def timm(config: Mapping[str, Any]) -> ImageProcessor:
    """The evaluation transform that timm's ``pretrained_cfg`` describes (``timm.data.create_transform``), as
    transformers' TimmWrapperImageProcessor makes it: at the size of training, not at ``test_input_size``.

    Raises:
        UnsupportedModel: the pictures have another number of channels than three.
    """
    written = config.get("pretrained_cfg")
    source: Mapping[str, Any] = written if isinstance(written, Mapping) else config
    filters = {"nearest": NEAREST, "bilinear": BILINEAR, "bicubic": BICUBIC, "box": BOX, "lanczos": LANCZOS}
    channels, height, width = source.get("input_size") or (3, 224, 224)
    if channels != 3:
        raise UnsupportedModel(f"The model takes pictures of {channels} channels; only colour (3) is supported.")
    part = source.get("crop_pct") or 0.875
    mode = source.get("crop_mode") or "center"
    mean = triple(source.get("mean") or IMAGENET[0])
    facts = {
        **KINDS["TimmWrapper"],
        "size": {"height": math.floor(height / part), "width": math.floor(width / part)},
        "crop_mode": mode,
        "fill": tuple(round(255 * value) for value in mean) if mode == "border" else (0, 0, 0),
        "resample": filters.get(str(source.get("interpolation") or "bicubic"), BICUBIC),
        "crop_size": {"height": height, "width": width},
        "image_mean": mean,
        "image_std": source.get("std") or IMAGENET[1],
    }
    return ImageProcessor("TimmWrapper", facts)
