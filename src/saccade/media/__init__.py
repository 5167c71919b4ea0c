"""Bytes to images and videos to frames, within limits.

``probe`` reads the size from the header, ``decode`` makes the upright RGB picture, ``kind`` tells images from videos,
``reel`` says how long a video claims to be, ``length`` counts, ``frames`` walks through it, ``VideoWriter`` makes one;
``with_videos`` is for refusals of what may be either.
Nothing here trusts what a client says about its bytes: names and content types are never looked at, and the size is
checked before anything is decoded.
"""

from __future__ import annotations

from saccade.media.headers import Header, probe
from saccade.media.images import Image, decode
from saccade.media.limits import Limits
from saccade.media.video import Kind, Reel, VideoWriter, frames, kind, length, reel, with_videos

__all__ = [
    "Header",
    "Image",
    "Kind",
    "Limits",
    "Reel",
    "VideoWriter",
    "decode",
    "frames",
    "kind",
    "length",
    "probe",
    "reel",
    "with_videos",
]
