"""How large an image or a video may be."""

from __future__ import annotations

import msgspec

from saccade.errors import TooLarge

MIB = 1024 * 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What is accepted; anything over it is refused with TooLarge, before memory or time is spent on it.

    ``max_bytes`` of an encoded image, ``max_pixels`` of one picture (or of one frame), ``max_video_bytes`` of an
    encoded video. ``max_frames`` and ``max_seconds`` count what is read of a video, whatever the stride.
    """

    max_bytes: int = 64 * MIB
    max_pixels: int = 64_000_000
    max_video_bytes: int = 128 * MIB
    max_frames: int = 9_000
    max_seconds: float = 600.0


DEFAULT = Limits()


def check_bytes(count: int, limit: int, noun: str) -> None:
    """Raises: TooLarge."""
    if count > limit:
        raise TooLarge(f"the {noun} has {count} bytes; at most {limit} are accepted: send a smaller file")


def check_pixels(width: int, height: int, limit: int, noun: str) -> None:
    """Raises: TooLarge."""
    if width * height > limit:
        megapixels = width * height / 1e6
        raise TooLarge(
            f"the {noun} is {width}x{height} ({megapixels:.6g} megapixels); at most {limit / 1e6:g} megapixels are "
            "accepted: scale it down"
        )
