"""The largest frame that AV1 data can hold, read from its headers alone (AV1 specification, sections 5.3 to 5.9).

A decoder obeys these sizes, whatever the file around the data announces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from saccade.errors import BadInput

SEQUENCE_HEADER: Final = 1
FRAME_HEADERS: Final = (3, 6, 7)
KEY_FRAME: Final = 0
SWITCH_FRAME: Final = 3
CHOSEN_PER_FRAME: Final = 2
MAX_UNITS: Final = 65536
HEAD_BYTES: Final = 512
"""More than the fields that are read here can fill."""


def frame_sizes(streams: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """Sizes (width, height), none of which is exceeded by any frame of these streams of open bitstream units.

    Raises: BadInput when there are absurdly many units, or no sequence header; IndexError when one of them is cut off.
    """
    left = MAX_UNITS
    for stream in streams:
        sequence: _Sequence | None = None
        for kind, head in _units(stream):
            left -= 1
            if left < 0:
                raise BadInput(f"the AVIF image is refused: it is made of more than {MAX_UNITS} units")
            if kind == SEQUENCE_HEADER:
                sequence = _sequence(_Bits(head))
                yield sequence.width, sequence.height
            elif kind in FRAME_HEADERS:
                if sequence is None:
                    raise BadInput("the AVIF image is damaged: a frame comes without its sequence header")
                if _has_own_size(_Bits(head), sequence):
                    # It stands further on; no decoder reads more bits of it than these.
                    yield 1 << sequence.width_bits, 1 << sequence.height_bits


@dataclass(slots=True)
class _Sequence:
    """What of a sequence header is needed to understand its frame headers."""

    still: bool
    width: int = 0
    height: int = 0
    width_bits: int = 0
    height_bits: int = 0
    time_bits: int = 0
    id_bits: int = 0
    screen_tools: int = CHOSEN_PER_FRAME
    integer_vectors: int = CHOSEN_PER_FRAME


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The kind of each unit and the first bytes of its content (5.3)."""
    at = 0
    while at < len(data):
        kind, extended, sized = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        at += 1 + extended
        length = len(data) - at
        if sized:
            length, at = _leb128(data, at)
        yield kind, data[at : at + min(length, HEAD_BYTES)]
        at += length


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = data[at + index]
        value |= (byte & 127) << 7 * index
        if byte < 128:
            break
    return value, at + index + 1


class _Bits:
    """Reads a header bit by bit, the highest first."""

    def __init__(self, head: bytes) -> None:
        self._value = int.from_bytes(head, "big")
        self._left = len(head) * 8

    def take(self, count: int = 1) -> int:
        self._left -= count
        if self._left < 0:
            raise IndexError
        return self._value >> self._left & (1 << count) - 1

    def skip_uvlc(self) -> None:
        zeros = 0
        while not self.take():
            zeros += 1
        if zeros < 32:
            self.take(zeros)


def _sequence(bits: _Bits) -> _Sequence:
    """Section 5.5.1, up to the tools for screen content."""
    bits.take(4)  # seq_profile, still_picture
    sequence = _Sequence(still=bool(bits.take()))
    if sequence.still:
        bits.take(5)
    else:
        sequence.time_bits = _operating_points(bits)
    sequence.width_bits, sequence.height_bits = bits.take(4) + 1, bits.take(4) + 1
    sequence.width, sequence.height = bits.take(sequence.width_bits) + 1, bits.take(sequence.height_bits) + 1
    if sequence.still:
        return sequence
    if bits.take():  # frame_id_numbers_present_flag
        sequence.id_bits = bits.take(4) + 2 + bits.take(3) + 1
    bits.take(7)  # superblocks, intra tools, compound tools, dual filter
    if bits.take():  # enable_order_hint
        bits.take(2)
    sequence.screen_tools = CHOSEN_PER_FRAME if bits.take() else bits.take()
    if sequence.screen_tools:
        sequence.integer_vectors = CHOSEN_PER_FRAME if bits.take() else bits.take()
    return sequence


def _operating_points(bits: _Bits) -> int:
    """How many bits the presentation time takes in each frame header that is shown; 0 when it has none."""
    time_bits = delay_bits = 0
    has_model = False
    if bits.take():  # timing_info_present_flag
        bits.take(64)
        equal = bits.take()
        if equal:
            bits.skip_uvlc()
        has_model = bool(bits.take())
        if has_model:
            delay_bits = bits.take(5) + 1
            bits.take(32 + 5)
            time_bits = bits.take(5) + 1
        if equal:
            time_bits = 0
    has_delay = bits.take()
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take()
        if has_model and bits.take():
            bits.take(2 * delay_bits + 1)
        if has_delay and bits.take():
            bits.take(4)
    return time_bits


def _has_own_size(bits: _Bits, sequence: _Sequence) -> bool:
    """Whether a frame overrides the size of its sequence (5.9.2, frame_size_override_flag)."""
    if sequence.still or bits.take():  # show_existing_frame
        return False
    kind, shown = bits.take(2), bits.take()
    if shown:
        bits.take(sequence.time_bits)
    else:
        bits.take()
    if kind != SWITCH_FRAME and not (kind == KEY_FRAME and shown):
        bits.take()
    bits.take()
    tools = bits.take() if sequence.screen_tools == CHOSEN_PER_FRAME else sequence.screen_tools
    if tools and sequence.integer_vectors == CHOSEN_PER_FRAME:
        bits.take()
    bits.take(sequence.id_bits)
    return kind == SWITCH_FRAME or bool(bits.take())
