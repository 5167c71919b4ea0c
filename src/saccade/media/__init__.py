"""Bytes to images and videos to frames, within limits.

``probe`` reads the size from the header, ``decode`` makes the upright RGB picture, ``kind`` tells images from videos,
``frames`` walks through a video, ``VideoWriter`` makes one. Nothing here trusts what a client says about its bytes:
names and content types are never looked at, and the size is checked before anything is decoded.
"""

from __future__ import annotations

from saccade.media.headers import Header, probe
from saccade.media.images import Image, decode
from saccade.media.limits import Limits

__all__ = ["Header", "Image", "Limits", "decode", "probe"]
