"""AVIF files are as large as their AV1 data say, whatever they announce, and are read without much work."""

from __future__ import annotations

import io
import resource
import struct
import time
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image as Pillow

from saccade.errors import BadInput, TooLarge
from saccade.media import Limits, decode, probe

ANNOUNCED = (64, 48)
REAL = (301, 203)
SOME = Limits(max_pixels=10_000)
"""Allows what is announced, not what is there."""

STILL = {"quality": 60}
MOVING = {"save_all": True, "append_images": [Pillow.new("RGB", REAL)]}


def saved(**how: object) -> bytes:
    picture = np.random.default_rng(5).integers(0, 255, (REAL[1], REAL[0], 3), np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(picture).save(buffer, "AVIF", speed=10, **how)  # type: ignore[arg-type]
    return buffer.getvalue()


def box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)


def unit(kind: int, bits: str) -> bytes:
    """An open bitstream unit with its size, the bits filled up with zeros."""
    bits += "0" * (-len(bits) % 8)
    content = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return bytes([kind << 3 | 2, len(content)]) + content


def field(value: int, bits: int) -> str:
    return format(value, f"0{bits}b")


def sequence(width_bits: int = 16, *, timed: bool = False, numbered: bool = False, level: int = 0) -> bytes:
    """The sequence header of a video of 64x48 pixels, whose frames may say sizes of as many bits."""
    timing = "1" + field(1, 32) * 2 + "0" + "1" + field(9, 5) + field(1, 32) + field(9, 5) + field(6, 5)
    point = field(0, 12) + field(level, 5) + ("0" if level > 7 else "") + ("0" if timed else "")
    size = field(width_bits - 1, 4) * 2 + field(63, width_bits) + field(47, width_bits)
    numbers = "1" + field(3, 4) + field(2, 3) if numbered else "0"
    tools = "0" * 7 + "1" + "00" + "1" + "1"
    return unit(1, "000" + "0" + "0" + (timing if timed else "0") + "0" + field(0, 5) + point + size + numbers + tools)


def frame(*, override: bool, timed: bool = False, numbered: bool = False) -> bytes:
    """A shown key frame."""
    return unit(6, "0" + "00" + "1" + ("1" * 7 if timed else "") + "1" + "1" + "1" + ("1" * 8 if numbered else "") + (
        "1" if override else "0"
    ) + "1" * 40)  # fmt: skip


def container(streams: Sequence[bytes], *, extents: int = 1, in_idat: bool = False, wide: bool = False) -> bytes:
    """An AVIF file of these streams, each an item of its own, in a file that announces 64x48 pixels; ``wide``: the
    items have numbers of four bytes."""
    count, letter = len(streams), "I" if wide else "H"
    version = (3 if wide else 2) << 24
    names = [box(b"infe", struct.pack(f">I{letter}H4s", version, i + 1, 0, b"av01"), b"\0") for i in range(count)]
    shape = box(b"iprp", box(b"ipco", box(b"ispe", struct.pack(">III", 0, *ANNOUNCED))))
    idat = box(b"idat", *streams) if in_idat else b""

    def meta(start: int) -> bytes:
        entries = []
        for item, stream in enumerate(streams):
            entries.append(struct.pack(f">{letter}HHH", item + 1, int(in_idat), 0, extents))
            entries.append(struct.pack(">II", start, len(stream)) * extents)
            start += len(stream)
        places = box(b"iloc", struct.pack(f">IBB{letter}", (2 if wide else 1) << 24, 0x44, 0, count), *entries)
        return box(b"meta", bytes(4), box(b"iinf", struct.pack(">IH", 0, count), *names), places, shape, idat)

    head = box(b"ftyp", b"avif\0\0\0\0avifmif1")
    return head + meta(0 if in_idat else len(head) + len(meta(0)) + 8) + box(b"mdat", *([] if in_idat else streams))


@pytest.mark.parametrize("how", [STILL, MOVING], ids=["still", "moving"])
def test_a_file_that_announces_less_than_it_holds_is_refused_before_it_is_decoded(how: dict[str, object]) -> None:
    data = saved(**how).replace(struct.pack(">II", *REAL), struct.pack(">II", *ANNOUNCED))
    with pytest.raises(TooLarge, match="301x203"):
        decode(data, SOME)
    assert decode(data).rgb.shape[:2] == ANNOUNCED[::-1], "decoders scale it to what was announced"


def test_only_the_track_of_an_animation_may_be_larger() -> None:
    data = saved(**MOVING).replace(struct.pack(">II", *REAL), struct.pack(">II", *ANNOUNCED)).replace(b"av01", b"xxxx")
    with pytest.raises(TooLarge, match="301x203"):
        decode(data, SOME)


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("level", [0, 13])
def test_a_frame_that_overrides_its_size_counts_as_the_largest_that_it_could_say(
    timed: bool, numbered: bool, level: int
) -> None:
    start = sequence(16, timed=timed, numbered=numbered, level=level)
    for override, size in ((False, ANNOUNCED), (True, (65536, 65536))):
        data = container([start + frame(override=override, timed=timed, numbered=numbered)])
        header = probe(data)
        assert (header.width, header.height) == size
    with pytest.raises(TooLarge, match="65536x65536"):
        decode(data)


@pytest.mark.parametrize("in_idat", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_every_picture_of_the_file_counts_wherever_it_lies(in_idat: bool, wide: bool) -> None:
    small, large = sequence(7) + frame(override=False), sequence(9) + frame(override=True)
    header = probe(container([small, large, small], in_idat=in_idat, wide=wide))
    assert (header.width, header.height) == (512, 512)


@pytest.mark.parametrize("before", [b"\x7a\xac\x02" + bytes(300), b"\x7e\x08\x03" + bytes(3)], ids=["long", "layer"])
def test_what_comes_after_a_unit_of_another_form_counts(before: bytes) -> None:
    header = probe(container([sequence(7) + before + sequence(9) + frame(override=True)]))
    assert (header.width, header.height) == (512, 512)


def test_a_frame_without_a_sequence_header_is_refused() -> None:
    with pytest.raises(BadInput, match="sequence header"):
        probe(container([frame(override=False)]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (container([sequence() + b"\x12\0" * 100_000]), "units"),
        (container([sequence() + b"\x12\0" * 9_000] * 8), "units"),
        (container([sequence() + bytes(1000)], extents=4), "over one another"),
        (container([sequence()], extents=5000), "parts"),
    ],
    ids=["units", "units of all pictures", "parts over one another", "parts"],
)
def test_files_of_absurdly_many_pieces_are_refused_at_once(data: bytes, words: str) -> None:
    began = time.process_time()
    with pytest.raises(BadInput, match=words):
        probe(data)
    assert time.process_time() - began < 1


def test_parts_that_lie_over_one_another_are_refused_before_they_are_gathered() -> None:
    data = container([sequence() + bytes(1_000_000)], extents=4096)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput, match="over one another"):
        probe(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_a_file_that_lists_its_parts_again_and_again_is_refused_at_once() -> None:
    places = box(b"iloc", struct.pack(">IHHHHH", 0, 0, 1, 9, 0, 4096))
    shape = box(b"iprp", box(b"ipco", box(b"ispe", struct.pack(">III", 0, *ANNOUNCED))))
    began = time.process_time()
    with pytest.raises(BadInput, match="more than once"):
        probe(box(b"ftyp", b"avif\0\0\0\0avifmif1") + box(b"meta", bytes(4), shape, places * 2000))
    assert time.process_time() - began < 1
