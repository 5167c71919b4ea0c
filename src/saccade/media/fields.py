"""Whether the pictures of a video may be halves woven into each other (interlaced), by what its codec tells of itself.

The headers are those of ISO/IEC 14496-10 (H.264), 23008-2 (HEVC), 13818-2 (MPEG-2), 14496-2 (MPEG-4) and SMPTE RDD 36.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

HIGH: Final = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 144, 244}
"""Profiles of H.264 that tell of their colours, too."""
PICTURE: Final = re.compile(rb"\x00\x00\x01\xb5[\x80-\x8f].{3}(.)", re.DOTALL)
"""The extension that MPEG-2 gives to each picture."""
HEAD: Final = 1 << 14
"""Bytes of a packet before whose end its headers lie."""
LONGEST: Final = 1 << 10
"""Bytes of the longest header that is asked."""


def possible(codec: bytes, packets: Iterable[bytes]) -> bool:
    """``codec`` is its FourCC, ``packets`` are the first ones; one that is not known has no halves."""
    name = codec.lower()
    if name.startswith(b"dv"):
        return True
    find = _FINDERS.get(name)
    try:
        return find is not None and any(find(packet[:HEAD]) for packet in packets)
    except IndexError:  # it ends within a header: whoever decodes it finds the damage
        return False


class _Bits:
    """Reads a header bit by bit; the bytes that keep start codes out of it are taken away."""

    def __init__(self, data: bytes) -> None:
        self._data = data[:LONGEST].replace(b"\0\0\3", b"\0\0")
        self._at = 0

    def take(self, count: int = 1) -> int:
        value = 0
        for at in range(self._at, self._at + count):
            value = value << 1 | self._data[at >> 3] >> 7 - (at & 7) & 1
        self._at += count
        return value

    def golomb(self) -> int:
        """A number of H.264's own coding; of signed ones its rank, which is 0 for 0, too."""
        zeros = 0
        while not self.take():
            zeros += 1
        return (1 << zeros) + self.take(zeros) - 1


def _h264(packet: bytes) -> bool:
    """``frame_mbs_only_flag`` of a sequence parameter set is not set."""
    return any(not _frames_only(_Bits(unit[1:])) for unit in _units(packet) if unit[0] & 31 == 7)


def _frames_only(bits: _Bits) -> bool:
    profile = bits.take(8)
    bits.take(16)
    bits.golomb()
    if profile in HIGH:
        colours = bits.golomb()
        bits.take(colours == 3)
        bits.golomb(), bits.golomb(), bits.take()
        if bits.take():
            for number in range(12 if colours == 3 else 8):
                if bits.take():
                    _pass_scaling(bits, 16 if number < 6 else 64)
    bits.golomb()
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(), bits.golomb(), bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()
    bits.golomb(), bits.take(), bits.golomb(), bits.golomb()
    return bool(bits.take())


def _pass_scaling(bits: _Bits, size: int) -> None:
    last = 8
    for _ in range(size):
        rank = bits.golomb()
        last = (last + (rank + 1 >> 1 if rank & 1 else -(rank >> 1))) % 256
        if last == 0:
            break


def _hevc(packet: bytes) -> bool:
    """``general_interlaced_source_flag`` of a sequence parameter set."""
    sets = (unit[2:LONGEST] for unit in _units(packet) if unit[0] >> 1 & 63 == 33)
    return any(found.replace(b"\0\0\3", b"\0\0")[6] & 0x40 for found in sets)


def _mpeg2(packet: bytes) -> bool:
    """``progressive_frame`` of a picture is not set."""
    return any(not found[1][0] & 0x80 for found in PICTURE.finditer(packet))


def _mpeg4(packet: bytes) -> bool:
    """``interlaced`` of a video object layer."""
    return any(_woven(_Bits(unit[1:])) for unit in _units(packet) if unit[0] >> 4 == 2)


def _woven(bits: _Bits) -> bool:
    bits.take(9)
    if bits.take():
        bits.take(7)
    if bits.take(4) == 15:
        bits.take(16)
    if bits.take():
        bits.take(3)
        if bits.take():
            bits.take(79)
    bits.take(3)
    clock = bits.take(16)
    bits.take()
    if bits.take():
        bits.take(max((clock - 1).bit_length(), 1))
    bits.take(29)
    return bool(bits.take())


def _prores(packet: bytes) -> bool:
    return packet[4:8] == b"icpf" and bool(packet[20] & 0x0C)


def _units(packet: bytes) -> list[bytes]:
    """What follows each start code."""
    return [unit for unit in packet.split(b"\0\0\1")[1:] if unit]


_FINDERS: Final[Mapping[bytes, Callable[[bytes], bool]]] = MappingProxyType(
    {
        **dict.fromkeys((b"h264", b"avc1", b"avc3", b"x264"), _h264),
        **dict.fromkeys((b"hevc", b"hvc1", b"hev1"), _hevc),
        **dict.fromkeys((b"mpg2", b"mpeg", b"m2v1"), _mpeg2),
        **dict.fromkeys((b"fmp4", b"mp4v", b"xvid", b"divx", b"dx50"), _mpeg4),
        **dict.fromkeys((b"apcn", b"apch", b"apcs", b"apco", b"ap4h", b"ap4x"), _prores),
    }
)
