"""HEIC files are refused by the pixels that have to be decoded for them, not only by those that they announce."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping, Sequence

import heif_files
import numpy as np
import pytest

from saccade.errors import BadInput
from saccade.media import decode, heif, probe
from saccade.media.boxes import boxes, inside

TILE = 256


def box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)


def contents(data: bytes, kind: bytes, *path: bytes) -> Iterator[bytes]:
    for start, end in inside(data, *path) if path else [(0, len(data))]:
        yield from (data[first:last] for name, first, last in boxes(data, start, end) if name == kind)


def container(made_of: Mapping[int, Sequence[int]], cells: tuple[int, int], size: tuple[int, int]) -> bytes:
    """A file of grids of so many (rows, columns), each from the items that are named; all others are the same tile."""
    tile = heif_files.TILE
    tiles = sorted({part for parts in made_of.values() for part in parts} - made_of.keys())
    coded = next(contents(tile, b"mdat"))
    shapes = [struct.pack(">III", 0, *wh) for wh in ((TILE, TILE), size)]
    setup = box(b"hvcC", next(contents(tile, b"hvcC", b"meta", b"iprp", b"ipco")))
    properties = box(b"ipco", setup, *(box(b"ispe", shape) for shape in shapes))
    own = b"".join(struct.pack(">HBBB", item, 2, 0x81, 2) for item in tiles)
    own += b"".join(struct.pack(">HBB", item, 1, 3) for item in made_of)
    names = [*((item, b"hvc1") for item in tiles), *((item, b"grid") for item in made_of)]
    grid = struct.pack(">BBBBHH", 0, 0, cells[0] - 1, cells[1] - 1, *size)
    named = [
        box(b"dimg", struct.pack(">HH", item, len(parts)), struct.pack(f">{len(parts)}H", *parts))
        for item, parts in made_of.items()
    ]

    def meta(start: int) -> bytes:
        places = [struct.pack(">HHHHII", item, 0, 0, 1, start, len(coded)) for item in tiles]
        places += [struct.pack(">HHHHII", item, 1, 0, 1, 0, len(grid)) for item in made_of]
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", struct.pack(">II4s13x", 0, 0, b"pict")),
            box(b"pitm", struct.pack(">IH", 0, max(made_of))),
            box(
                b"iinf",
                struct.pack(">IH", 0, len(names)),
                *(box(b"infe", struct.pack(">IHH4sx", 2 << 24, item, 0, kind)) for item, kind in names),
            ),
            box(b"iref", bytes(4), *named),
            box(b"iprp", properties, box(b"ipma", struct.pack(">II", 0, len(names)), own)),
            box(b"idat", grid),
            box(b"iloc", struct.pack(">IHH", 1 << 24, 0x4400, len(names)), *places),
        )

    head = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", coded)


@pytest.mark.parametrize("kind", [b"Exi\xff", b"\x80xif", b"Exi\xc3"])
def test_a_part_whose_kind_is_no_text_is_refused_and_ends_no_process(kind: bytes) -> None:
    data = heif_files.TILE
    start = data.index(b"meta") - 4
    item = box(b"infe", struct.pack(">IHH4sx", 2 << 24, 9, 0, kind))
    info = box(b"iinf", struct.pack(">IH", 0, 1), item)
    with pytest.raises(BadInput, match="no text"):
        probe(data[:start] + box(b"meta", bytes(4), info) + data[start:])


def test_a_grey_picture_of_fewer_bits_than_its_header_says_is_refused_and_not_read_past_its_end() -> None:
    data = bytearray(heif_files.MODES["L"])
    data[data.index(b"hvcC") + 4 + 17] |= 1
    with pytest.raises(BadInput, match="fewer bits"):
        decode(bytes(data))


def test_a_part_may_bear_a_name_in_any_language() -> None:
    item = box(b"infe", struct.pack(">IHH4s", 2 << 24, 200, 0, b"Exif"), "größer".encode() + b"\0")
    heif.check_names(box(b"meta", bytes(4), box(b"iinf", struct.pack(">IH", 0, 1), item)))


def test_a_picture_of_tiles_that_jut_out_is_decoded() -> None:
    data = container({7: range(1, 7)}, (2, 3), (TILE * 2 + 2, TILE + 2))
    rgb = decode(data).rgb
    assert rgb.shape == (TILE + 2, TILE * 2 + 2, 3)
    assert np.ptp(rgb, axis=(0, 1)).max() < 10


def test_a_small_picture_of_hundreds_of_large_tiles_is_refused() -> None:
    with pytest.raises(BadInput, match="many times the pixels"):
        probe(container({2: [1] * 900}, (30, 30), (64, 64)))


def test_tiles_of_tiles_count_as_often_as_they_are_drawn() -> None:
    for made_of in ({2: [1] * 3, 3: [2] * 3}, {3: [2] * 3, 2: [1] * 3}):
        with pytest.raises(BadInput, match="many times the pixels"):
            probe(container(made_of, (1, 3), (64, 64)))


def test_a_picture_that_is_made_of_itself_is_refused() -> None:
    with pytest.raises(BadInput, match="deep"):
        probe(container({2: [3, 1], 3: [2, 1]}, (1, 2), (64, 64)))


def test_lists_of_parts_that_lie_over_one_another_are_refused_at_once() -> None:
    lists = box(b"dimg", struct.pack(">HH", 2, 60_000)) * 4000
    shape = box(b"iprp", box(b"ipco", box(b"ispe", struct.pack(">III", 0, 64, 64))))
    began = time.process_time()
    with pytest.raises(BadInput, match="parts"):
        probe(
            box(b"ftyp", b"heic\0\0\0\0mif1heic")
            + box(b"meta", bytes(4), shape, box(b"iref", bytes(4), lists))
            + bytes(200_000)
        )
    assert time.process_time() - began < 1
