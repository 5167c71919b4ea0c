"""One encoded image to upright RGB pixels.

The header is read first (``headers``), then one library decodes: libjpeg-turbo through simplejpeg for JPEG, OpenCV for
PNG, still WebP and JPEG 2000, Pillow for the rest, libheif for HEIC. All of them release Python's lock while they
decode, so a pool of threads scales; all give the same pixels as Pillow and OpenCV give (tests compare them).
"""

from __future__ import annotations

import importlib
import io
import logging
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import simplejpeg  # type: ignore[import-untyped]

from saccade.errors import BadInput, TooLarge
from saccade.media import boxes, exif, gif, netpbm, png, tiff
from saccade.media.headers import Header, probe
from saccade.media.limits import DEFAULT, Limits, check_bytes, check_pixels
from saccade.results import ByteArray

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

PILLOW_READERS: Final = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "MPO": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "ICO": ("PIL.IcoImagePlugin", "IcoImageFile"),
    "PPM": ("PIL.PpmImagePlugin", "PpmImageFile"),
    "TGA": ("PIL.TgaImagePlugin", "TgaImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "JPEG2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
}
"""Reader classes by format. They are called directly: Image.open would import and try every plugin there is."""

BOXED: Final = ("AVIF", "HEIF", "JPEG2000")
"""Formats whose files are rows of boxes that say their length."""

ROOM: Final = 6
"""Bytes for each pixel that every decoder needs: what it has decoded, and the picture."""

UNUSUAL: Final = ("unknown pixel mode", "unknown data organization", "unknown raw mode", "unsupported bmp")
"""How Pillow begins what it says of files that may be sound."""

SRGB_BOX: Final = re.compile(rb"colr\x01..\x00\x00\x00\x10", re.DOTALL)
"""JPEG 2000 in plain sRGB: OpenCV gives Pillow's pixels there, and unlike Pillow releases the lock meanwhile."""

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # or strangers' damaged files would fill the server's log


logging.getLogger("PIL").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True, slots=True)
class Image:
    """Upright pixels: ``rgb`` (h, w, 3) uint8, contiguous; ``format`` as the header says ("JPEG", "PNG", ...).

    ``encoded`` are the bytes that they were made of.
    """

    rgb: ByteArray
    format: str
    encoded: bytes

    @property
    def on_white(self) -> ByteArray:
        """The pixels with the one colour of a PNG or GIF on white that is wholly clear wherever it occurs.

        All else that has alpha is as in ``rgb``.
        """
        look = {"PNG": png.clear, "GIF": gif.clear}.get(self.format)
        colour = look(self.encoded) if look is not None else None
        if colour is None:
            return self.rgb
        return np.where((self.rgb == colour).all(axis=2, keepdims=True), np.uint8(255), self.rgb)


def decode(data: bytes, limits: Limits = DEFAULT) -> Image:
    """The upright RGB picture; of animations and files with several pages, the first.

    Alpha is dropped, not blended with a colour. Samples of more than 8 bits keep their high bits. Colour profiles are
    not applied. Safe to call from many threads.

    Raises: BadInput, TooLarge (decided by the header, before anything is decoded).
    """
    check_bytes(len(data), limits.max_bytes, "image")
    header = probe(data)
    check_pixels(header.width, header.height, limits.max_pixels, f"{header.format} image")
    try:
        rgb = _pixels(data, header, limits)
    except (BadInput, TooLarge):
        raise
    except Exception as error:  # decoders raise whatever they like at damaged bytes, and none of it is our fault
        raise _undecodable(data, header, error) from error
    return Image(rgb, header.format, data)


def _pixels(data: bytes, header: Header, limits: Limits) -> ByteArray:
    match header.format:
        case "JPEG" | "MPO":
            return exif.upright(_jpeg(data, header, limits), header.orientation)
        case "PNG":
            return exif.upright(_opencv(png.essential(data), header), header.orientation)
        case "WEBP":
            return exif.upright(_opencv(data, header), header.orientation)
        case "JPEG2000" if header.components == 3 and SRGB_BOX.search(data, 0, 4096):
            try:
                return _opencv(data, header)
            except BadInput:  # or it begins within its canvas, which OpenCV does not read
                return _pillow(data, header, limits)
        case "HEIF":
            return _heif(data, limits)
        case "PPM" if netpbm.is_text(data):
            return netpbm.pixels(data)
        case "GIF":
            return _pillow(gif.first_frame(data), header, limits)
        case _:
            return _pillow(data, header, limits)


def _jpeg(data: bytes, header: Header, limits: Limits) -> ByteArray:
    """libjpeg-turbo with its exact DCT and smooth upsampling: the pixels of Pillow and OpenCV.

    What it will not read without a warning goes to Pillow, which forgives stray bytes but not missing rows. CMYK goes
    there too, for its conversion to RGB.
    """
    if header.bits != 8:
        raise BadInput(f"the JPEG image has {header.bits}-bit samples; only 8 bits are accepted: convert it first")
    if header.components in (1, 3):
        try:
            return np.asarray(simplejpeg.decode_jpeg(data, "RGB"), dtype=np.uint8)
        except ValueError:
            pass
    return _pillow(data, header, limits)


def _opencv(data: bytes, header: Header) -> ByteArray:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None or pixels.shape[:2] != (header.height, header.width):
        raise _undecodable(data, header, None)
    return np.asarray(pixels, dtype=np.uint8)


def _heif(data: bytes, limits: Limits) -> ByteArray:
    """libheif turns the picture itself and brings more than 8 bits down to 8."""
    from pi_heif import open_heif  # type: ignore[import-untyped]  # 0.1 s to import, and few images need it

    # What pi-heif would do with the samples writes past their end where the header says more bits than they have.
    picture = open_heif(io.BytesIO(data), convert_hdr_to_8bit=True, hdr_to_16bit=False, remove_stride=False)
    width, height = picture.size
    check_pixels(width, height, limits.max_pixels, "HEIF image")
    stride, (width, height) = picture.stride, picture.size
    channels, is_deep = len(picture.mode.partition(";")[0]), ";" in picture.mode
    taken = width * channels * (2 if is_deep else 1)
    if taken > stride:
        raise BadInput("the HEIF image is damaged: its samples have fewer bits than its header says")
    # A copy, for the picture takes its samples with it.
    rows = np.array(np.frombuffer(picture.data, np.uint8)[: height * stride].reshape(height, stride)[:, :taken])
    samples = np.minimum(rows.view("<u2") >> picture.info["bit_depth"] - 8, 255).astype(np.uint8) if is_deep else rows
    pixels = samples.reshape(height, width, channels)
    return np.ascontiguousarray(pixels[:, :, :3] if channels > 2 else np.repeat(pixels[:, :, :1], 3, axis=2))


def _pillow(data: bytes, header: Header, limits: Limits) -> ByteArray:
    if header.floats or (header.format == "TIFF" and header.bits > 16):
        kind = "floating-point" if header.floats else "integer"
        raise BadInput(
            f"the {header.format} image has {header.bits}-bit {kind} samples, whose range is not known; "
            "at most 16-bit integer samples are accepted: convert it first"
        )
    picture = _opened(data, header)
    check_pixels(*picture.size, limits.max_pixels, f"{header.format} image")
    picture.load()
    if header.format not in ("JPEG", "MPO"):  # these are turned as the header says, whoever decodes them
        from PIL import ImageOps

        ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        samples = np.asarray(picture)
        return _grey16(~samples if header.format == "TIFF" and tiff.is_negative(picture) else samples, header)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"), dtype=np.uint8)


def _opened(data: bytes, header: Header) -> ImageFile:
    """Pillow's picture of these bytes, not loaded yet. A reader is imported when it is first needed."""
    module, name = PILLOW_READERS[header.format]
    reader = getattr(importlib.import_module(module), name)
    picture: ImageFile = reader(io.BytesIO(data))
    if header.format == "TIFF" and header.bits == 16:
        tiff.widen_planes(picture)
    return picture


def _grey16(samples: np.ndarray, header: Header) -> ByteArray:
    """The high eight bits, where Pillow's own conversion would turn everything above 255 into white."""
    if samples.dtype.kind == "f":
        raise BadInput(f"the {header.format} image has floating-point samples: convert it to 8 or 16 bits first")
    shift = header.bits - 8 if header.bits > 8 else 8
    grey = np.clip(samples.astype(np.int32) >> shift, 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _undecodable(data: bytes, header: Header, error: Exception | None) -> BadInput:
    """What to tell the sender; the library's own words may hold addresses of memory, so they stay out.

    Raises MemoryError where there is no room for the picture: then it is not the sender's fault.
    """
    np.empty(ROOM * header.width * header.height, np.uint8)
    words = str(error).lower() if error else ""
    if words.startswith(UNUSUAL):
        return BadInput(
            f"the {header.format} image is of an unusual kind ({header.components} samples of {header.bits} bits for "
            "each pixel), which is not read: save it as RGB or grey with 8 bits"
        )
    if header.format in BOXED and (missing := boxes.missing(data)):
        return BadInput(
            f"the {header.format} image is truncated: its last {missing} bytes are missing; send the whole file"
        )
    if isinstance(error, EOFError) or "truncated" in words or "premature" in words or "not enough" in words:
        return BadInput(f"the {header.format} image is truncated: part of its data is missing; send the whole file")
    return BadInput(f"the {header.format} image is damaged and cannot be decoded: save or export it again")
