"""Every format decodes to the pixels that Pillow and OpenCV give, and nothing hostile gets further than its header."""

from __future__ import annotations

import base64
import io
import json
import random
import resource
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import heif_files
import numpy as np
import pi_heif
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from saccade.errors import BadInput, CallError, TooLarge
from saccade.media import Limits, decode, probe
from saccade.results import ByteArray

pi_heif.register_heif_opener()

MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16")
SAVES: tuple[tuple[str, dict[str, object]], ...] = (
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("JPEG", {"keep_rgb": True}),
    ("PNG", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("GIF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", {"big_tiff": True}),
    ("BMP", {}),
    ("ICO", {}),
    ("ICO", {"bitmap_format": "bmp"}),
    ("PPM", {}),
    ("TGA", {}),
    ("TGA", {"compression": "tga_rle"}),
    ("AVIF", {}),
    ("HEIF", {}),
    ("JPEG2000", {}),
    ("JPEG2000", {"no_jp2": True}),
)
UNTOLD = ("HEIF", "ICO", "TGA", "PPM")
"""What does not tell that ``curl -d`` sent it: the first is too small here, the others have no signature."""


def photo(width: int = 53, height: int = 37) -> ByteArray:
    """A picture without symmetry: ramps and one bright corner."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    picture = np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8)
    picture[: height // 4, : width // 4] = (250, 20, 90)
    return picture


def in_mode(mode: str) -> Pillow.Image:
    picture = Pillow.fromarray(photo())
    if mode == "P":
        return picture.quantize(32)
    if mode == "I;16":
        return Pillow.fromarray(photo()[..., 0].astype(np.uint16) * 257)
    if mode in ("RGBA", "LA"):
        picture = picture.convert(mode[:-1])
        picture.putalpha(Pillow.fromarray(photo()[..., 1]))
        return picture
    return picture.convert(mode)


def saved(picture: Pillow.Image, form: str, **how: object) -> bytes:
    if form == "HEIF":
        return heif_files.MODES[picture.mode]
    buffer = io.BytesIO()
    picture.save(buffer, form, **how)
    return buffer.getvalue()


def by_pillow(data: bytes) -> ByteArray:
    """What the reference pipeline sees, with 16 bits scaled where Pillow would clip them."""
    picture = ImageOps.exif_transpose(Pillow.open(io.BytesIO(data)))
    if picture.mode.startswith("I"):
        return np.repeat((np.asarray(picture) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.asarray(picture.convert("RGB"))


def cases() -> Iterator[tuple[str, str, dict[str, object]]]:
    for form, how in SAVES:
        for mode in MODES:
            if (form, mode) == ("ICO", "I;16") and "bitmap_format" not in how:
                continue  # Pillow's own header forgets that the PNG inside has 16 bits
            try:
                saved(in_mode(mode), form, **how)
            except (OSError, ValueError, RuntimeError, KeyError):
                continue
            yield mode, form, how


@pytest.mark.parametrize(("mode", "form", "how"), list(cases()), ids=str)
def test_every_mode_of_every_format_has_the_pixels_of_pillow(mode: str, form: str, how: dict[str, object]) -> None:
    data = saved(in_mode(mode), form, **how)
    header, image = probe(data), decode(data)
    with Pillow.open(io.BytesIO(data)) as reference:
        assert image.format == header.format == reference.format
        if form != "HEIF":  # its header says the coded size, which is a multiple of the block size
            assert (header.width, header.height) == reference.size
    np.testing.assert_array_equal(image.rgb, by_pillow(data))
    if form == "HEIF":  # the reference has the same reader, so the picture that was written is asked, too
        written = photo()[..., :1] if mode == "I;16" else np.asarray(in_mode(mode).convert("RGB"))
        assert np.abs(image.rgb - written.astype(np.int16)).mean() < 6
    assert image.rgb.dtype == np.uint8
    assert image.rgb.flags.c_contiguous


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_all_eight_orientations_come_out_upright(form: str, turn: int) -> None:
    exif = Pillow.Exif()
    exif[0x010E], exif[0x010F], exif[0x0110] = "What cameras write before it", "Maker", "Model"
    exif[0x0112] = turn
    data = saved(Pillow.fromarray(photo()), form, exif=exif)
    expected = by_pillow(data)
    assert expected.shape[:2] == ((53, 37) if turn > 4 else (37, 53))
    np.testing.assert_array_equal(decode(data).rgb, expected)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("how", ["CMYK", "stray bytes", "fill bytes", "two blocks"])
def test_an_unusual_jpeg_is_turned_once(how: str, turn: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = turn
    data = saved(Pillow.fromarray(photo()).convert("CMYK" if how == "CMYK" else "RGB"), "JPEG", exif=exif)
    if how == "stray bytes":  # before a marker: decoders skip them with a warning
        at = data.index(b"\xff\xda")
        data = data[:at] + b"\0\0" + data[at:]
    if how == "fill bytes":  # as many as one likes may stand before a marker
        at = data.index(b"\xff\xe1")
        data = data[:at] + b"\xff" * 3 + data[at:]
    if how == "two blocks":  # an editor wrote its own behind the camera's
        block = b"Exif\0\0" + struct.pack("<4sIHHHIHHI", b"II*\0", 8, 1, 0x0112, 3, 1, turn % 8 + 1, 0, 0)
        at = data.index(b"\xff\xdb")
        data = data[:at] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[at:]
    np.testing.assert_array_equal(decode(data).rgb, by_pillow(data))


def test_a_webp_is_turned_although_a_part_of_odd_length_stands_before_its_orientation() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    data = saved(Pillow.fromarray(photo()), "WEBP", exif=exif, icc_profile=b"odd" * 43)
    assert decode(data).rgb.shape[:2] == by_pillow(data).shape[:2] == (53, 37)


def test_orientation_in_an_imagemagick_text_chunk_counts() -> None:
    block = b"Exif\0\0" + struct.pack("<4sIHHHIHHI", b"II*\0", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    text = b"\nexif\n%8d\n%s\n" % (len(block), block.hex().encode())
    data = saved(Pillow.fromarray(photo()), "PNG")
    for chunk in (
        b"tEXtRaw profile type exif\0" + text,
        b"zTXtRaw profile type exif\0\0" + zlib.compress(text),
    ):
        marked = (
            data[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
        )
        np.testing.assert_array_equal(decode(marked).rgb, np.rot90(photo(), -1))


@pytest.mark.parametrize(("order", "sign"), [("<", b"II*\0"), (">", b"MM\0*")])
@pytest.mark.parametrize(("kind", "letter"), [(1, "B3x"), (3, "H2x"), (4, "I")])
def test_an_orientation_counts_in_every_type_of_number(order: str, sign: bytes, kind: int, letter: str) -> None:
    block = b"Exif\0\0" + struct.pack(f"{order}4sIHHHI{letter}I", sign, 8, 1, 0x0112, kind, 1, 6, 0)
    assert decode(saved(Pillow.fromarray(photo()), "JPEG", exif=block)).rgb.shape == (53, 37, 3)


@pytest.mark.parametrize("kept", [7, 12, 17])
def test_a_photo_whose_camera_did_not_write_its_exif_to_the_end_is_read(kept: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    data = saved(Pillow.fromarray(photo()), "JPEG", exif=block[: 6 + kept])
    assert decode(data).rgb.shape == (37, 53, 3)


def test_the_last_box_of_a_jpeg_2000_may_reach_to_the_end_of_the_file() -> None:
    data = saved(Pillow.fromarray(photo()), "JPEG2000")
    at = data.index(b"jp2c") - 4
    np.testing.assert_array_equal(decode(data[:at] + bytes(4) + data[at + 4 :]).rgb, decode(data).rgb)


@pytest.mark.parametrize("profile", [b"zTXtRaw profile type exif\0\0damaged", b"tEXtRaw profile type exif\0\n\n\nxyz"])
def test_a_damaged_text_chunk_of_a_png_turns_nothing(profile: bytes) -> None:
    data = saved(Pillow.fromarray(photo()), "PNG")
    chunk = struct.pack(">I", len(profile) - 4) + profile + struct.pack(">I", zlib.crc32(profile))
    np.testing.assert_array_equal(decode(data[:33] + chunk + data[33:]).rgb, photo())


def test_a_jpeg_2000_that_begins_within_its_canvas_is_as_large_as_what_there_is_of_it() -> None:
    for bare in (False, True):
        data = saved(Pillow.fromarray(photo()), "JPEG2000", no_jp2=bare, offset=(8, 16), tile_size=(128, 128))
        np.testing.assert_array_equal(decode(data, Limits(max_pixels=53 * 37)).rgb, photo())


def test_bitmaps_of_old_programs_and_such_that_begin_at_the_top_are_read() -> None:
    data = saved(Pillow.fromarray(photo()), "BMP")
    (start,) = struct.unpack_from("<I", data, 10)
    rows = [data[at : at + 160] for at in range(start, len(data), 160)]
    turned = data[:22] + struct.pack("<i", -37) + data[26:start] + b"".join(reversed(rows))
    old = data[:10] + struct.pack("<IIHHHH", 26, 12, 53, 37, 1, 24) + b"".join(rows)
    long = [
        data[:10] + struct.pack("<II", 14 + size, size) + data[18:54] + bytes(size - 40) + b"".join(rows)
        for size in (52, 56, 64, 108, 124)
    ]
    for file in (turned, old, *long):
        np.testing.assert_array_equal(decode(file).rgb, photo())


def test_alpha_is_dropped_and_not_blended() -> None:
    picture = Pillow.new("RGBA", (4, 4), (10, 20, 30, 0))
    for form, how in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {}), ("TGA", {})):
        assert decode(saved(picture, form, **how)).rgb[0, 0].tolist() == [10, 20, 30], form


def test_the_one_clear_colour_of_a_picture_can_be_laid_on_white() -> None:
    palette = Pillow.new("P", (4, 1))
    palette.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0, 200, 0, 0])
    palette.putdata([0, 1, 2, 3])
    for form in ("PNG", "GIF"):
        image = decode(saved(palette, form, transparency=1))
        assert image.rgb[0].tolist() == [[10, 20, 30], [200, 0, 0], [0, 200, 0], [200, 0, 0]]
        assert image.on_white[0].tolist() == [[10, 20, 30], [255] * 3, [0, 200, 0], [255] * 3], form
    for mode, colour in (("L", 9), ("RGB", (4, 5, 6))):
        image = decode(saved(Pillow.new(mode, (2, 1), colour), "PNG", transparency=colour))
        assert image.on_white[0].tolist() == [[255] * 3] * 2
    image = decode(saved(palette, "PNG", transparency=bytes([255, 0, 128])))
    assert image.on_white is image.rgb


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    grey = Pillow.fromarray(np.full((4, 4), 40000, np.uint16))
    for form in ("PNG", "TIFF", "PPM", "JPEG2000"):
        assert decode(saved(grey, form)).rgb[0, 0].tolist() == [156, 156, 156], form


def tiff(order: str, pixels: bytes, *tags: tuple[int, int]) -> bytes:
    """One strip, and its tags: each a number and its value, from which (273, 0) tells where the strip begins."""
    start = 8 + 2 + 12 * len(tags) + 4
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    for tag, value in tags:
        head += struct.pack(order + "HHII", tag, 4, 1, start if tag == 273 else value)
    return head + bytes(4) + pixels


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
def test_planes_of_sixteen_bits_are_no_bytes(order: str, channels: int) -> None:
    samples = photo().transpose(2, 0, 1)[:channels].astype(np.uint16) * 257
    tags = ((256, 53), (257, 37), (258, 16), (259, 1), (262, 2 if channels == 3 else 1), (273, 0), (277, channels))
    data = tiff(order, samples.astype(f"{order}u2").tobytes(), *tags, (278, 37), (279, samples[0].nbytes), (284, 2))
    if channels == 3:  # a strip for each plane
        data = data.replace(*(struct.pack(f"{order}HHI", 273, 4, count) for count in (1, 3)))
        starts = [len(data) - samples.nbytes + plane * samples[0].nbytes for plane in range(3)]
        at = data.index(struct.pack(f"{order}HHI", 273, 4, 3)) + 8
        data = data[:at] + struct.pack(f"{order}I", len(data)) + data[at + 4 :] + struct.pack(f"{order}3I", *starts)
    expected = np.broadcast_to(photo()[..., :channels], (37, 53, 3))
    np.testing.assert_array_equal(decode(data).rgb, expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_where_zero_is_white_the_picture_is_no_negative(bits: int) -> None:
    samples = np.array([[0, 1 << (bits - 2), (1 << bits) - 1]], f"<u{bits // 8}")
    tags = ((256, 3), (257, 1), (258, bits), (259, 1), (262, 0), (273, 0), (277, 1), (278, 1), (279, samples.nbytes))
    assert decode(tiff("<", samples.tobytes(), *tags)).rgb[0, :, 0].tolist() == [255, 191, 0]


@pytest.mark.parametrize(
    ("data", "levels"),
    [
        (b"P1 4 1\n0 1 0 1\n", [255, 0, 255, 0]),
        (b"P1 4 1\n0101", [255, 0, 255, 0]),
        (b"P2\n# two #\n4 1 # three\n100\n0 25 50 100\n", [0, 64, 128, 255]),
        (b"P2\n# " + 200 * b"long " + b"\n4 1 100\n0 25 50 100\n", [0, 64, 128, 255]),
        (b"P2 4 1 65535\n0 256 40000 65535 ", [0, 1, 156, 255]),
        (b"P2 4 1 100\n0 25 # half of it\n50 100\n", [0, 64, 128, 255]),
        (b"P3 1 1 255 7 7 7", [7]),
        (b"P4 4 1\n\x50", [255, 0, 255, 0]),
        (b"P5 4 1 1023\n\x00\x00\x01\x00\x02\x00\x03\xff", [0, 64, 128, 255]),
    ],
)
def test_netpbm_files_are_scaled_to_their_own_white(data: bytes, levels: list[int]) -> None:
    assert decode(data).rgb[0, :, 0].tolist() == levels


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"P2 1 1 10 11", "a sample is outside 0..10"),
        (b"P2 2 1 10 3", "should have 2 samples, 1 arrived"),
        (b"P2 2 1 10 3 x", "something other than numbers"),
        (b"P1 2 1 02", "something other than 0 and 1"),
    ],
)
def test_netpbm_files_that_are_written_wrongly_are_told_how(data: bytes, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        decode(data)


def test_the_first_frame_of_animations_and_the_first_page_of_documents_is_taken() -> None:
    first, *others = (Pillow.fromarray(np.roll(photo(), step * 9, axis=1)) for step in range(3))
    for form, how in (("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("AVIF", {"quality": 100})):
        data = saved(first, form, save_all=True, append_images=others, **how)
        with Pillow.open(io.BytesIO(data)) as reference:
            assert reference.n_frames == 3
            np.testing.assert_array_equal(decode(data).rgb, np.asarray(reference.convert("RGB")))


@pytest.mark.parametrize(("form", "how"), SAVES, ids=str)
def test_a_file_that_was_cut_off_is_refused_and_never_half_grey(form: str, how: dict[str, object]) -> None:
    noise = np.random.default_rng(7).integers(0, 256, (96, 96, 3), np.uint8)
    data = saved(Pillow.fromarray(noise), form, **how)
    for part in (0.03, 0.5, 0.9):
        with pytest.raises(BadInput):
            decode(data[: int(len(data) * part)])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "JPEG2000"])
def test_a_cut_off_photo_is_called_truncated(form: str) -> None:
    data = saved(Pillow.fromarray(photo(640, 480)), form)
    for part in (0.5, 0.9):
        with pytest.raises(BadInput, match="truncated"):
            decode(data[: int(len(data) * part)])


def test_a_cut_off_heic_is_told_how_much_of_it_is_missing() -> None:
    data = heif_files.MODES["RGB"]
    with pytest.raises(BadInput, match="its last 20 bytes are missing"):
        decode(data[:-20])


def test_limits_are_told_from_the_header_with_both_numbers() -> None:
    data = saved(Pillow.fromarray(photo()), "PNG")
    with pytest.raises(TooLarge, match="53x37") as caught:
        decode(data, Limits(max_pixels=1000))
    assert "0.001 megapixels" in caught.value.message
    with pytest.raises(TooLarge) as caught:
        decode(data, Limits(max_pixels=1960))
    assert "(0.001961 megapixels); at most 0.00196 megapixels" in caught.value.message, "not 64.0 of at most 64"
    with pytest.raises(TooLarge, match=f"{len(data)} bytes"):
        decode(data, Limits(max_bytes=100))


@pytest.mark.parametrize(("form", "at"), [("JPEG", 5), ("JPEG", 7), ("BMP", 18), ("BMP", 22)])
def test_a_picture_without_a_height_or_width_is_told_so(form: str, at: int) -> None:
    data = saved(Pillow.fromarray(photo()), form)
    at += data.index(b"\xff\xc0") if form == "JPEG" else 0
    with pytest.raises(BadInput, match=r"its header says (0x37|53x0) pixels"):
        decode(data[:at] + bytes(2) + data[at + 2 :])


@pytest.mark.parametrize("first", [True, False])
def test_of_two_sizes_in_a_jpeg_the_larger_is_held_against_the_limit(first: bool) -> None:
    data = saved(Pillow.fromarray(photo()), "JPEG")
    frame = data.index(b"\xff\xc0")
    huge = data[frame : frame + 5] + struct.pack(">HH", 60_000, 60_000) + data[frame + 9 : frame + 19]
    at = frame if first else frame + 19
    with pytest.raises(TooLarge, match="60000x60000"):
        decode(data[:at] + huge + data[at:] + bytes(4_000_000))


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF", "TGA", "JPEG", "WEBP", "PPM", "JPEG2000", "AVIF"])
def test_a_header_that_promises_far_too_much_is_refused_before_decoding(form: str) -> None:
    data = bytearray(saved(Pillow.fromarray(photo()), form))
    small, huge = (53, 37), (16383, 16383)
    for order, size in (("<H", 2), (">H", 2), ("<I", 4), (">I", 4)):
        for old, new in zip(small, huge, strict=True):
            at = data.find(struct.pack(order, old), 4)
            if at >= 0 and form != "PPM":
                data[at : at + size] = struct.pack(order, new)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((BadInput, TooLarge)):
        decode(bytes(data) if form != "PPM" else b"P6 16383 16383 255\n" + bytes(100))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_a_gif_whose_first_frame_is_larger_than_its_screen_counts_as_large_as_the_frame() -> None:
    data = saved(Pillow.fromarray(photo()), "GIF")
    header = probe(data[:6] + struct.pack("<HH", 1, 1) + data[10:])
    assert (header.width, header.height) == (53, 37)


def test_megabytes_of_comment_in_a_gif_cost_nothing() -> None:
    data = saved(Pillow.fromarray(photo()), "GIF")
    frame = data.index(b"\x2c", 13 + 768)
    comment = b"\x21\xfe" + (b"\xff" + bytes(255)) * 100_000 + b"\0"
    np.testing.assert_array_equal(decode(data[:frame] + comment + data[frame:]).rgb, by_pillow(data))
    with pytest.raises(BadInput, match="blocks"):
        decode(data[:frame] + b"\x21\xfe\0" * 1_100_000 + data[frame:])


def test_tiff_tags_that_share_the_same_megabytes_are_refused() -> None:
    tags = [(256, 3, 1, 8), (257, 3, 1, 8), *((40000 + tag, 1, 8_000_000, 8) for tag in range(500))]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(8_000_000)
    with pytest.raises(BadInput, match="tags"):
        decode(data)


@pytest.mark.parametrize(("width", "height", "tile"), [(64000, 1000, (16, 4_000_000)), (2000, 2000, (16, 400_000))])
def test_tiles_many_times_as_large_as_the_picture_are_refused(width: int, height: int, tile: tuple[int, int]) -> None:
    tags = ((256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1), (322, tile[0]), (323, tile[1]))
    with pytest.raises(BadInput, match="tiles"):
        decode(tiff("<", bytes(100_000), *tags, (273, 0)))


def test_a_line_of_pixels_may_lie_in_large_tiles() -> None:
    packed = zlib.compress(bytes(512 * 512))
    tags = ((256, 1), (257, 500), (258, 8), (259, 8), (262, 1), (277, 1), (322, 512), (323, 512), (324, 134))
    assert decode(tiff("<", packed, *tags, (325, len(packed)))).rgb.shape == (500, 1, 3)


def test_a_jpeg_of_a_million_segments_is_refused() -> None:
    data = saved(Pillow.fromarray(photo()), "JPEG")
    with pytest.raises(BadInput, match="segments"):
        decode(data[:2] + b"\xff\xfe\0\2" * 1_000_000 + data[2:])


def test_an_icon_is_as_large_as_the_png_inside_it_says() -> None:
    png = saved(Pillow.new("1", (9000, 9000)), "PNG")
    icon = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(png), 22) + png
    with pytest.raises(TooLarge, match="9000x9000"):
        decode(icon)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html></html>", "HTML page"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04rest", "ZIP"),
        (b'{"inputs": "x"}', "JSON"),
        (b"data:image/png;base64,iVBORw0KGgo=", "base64"),
        (b"https://example.org/cat.jpg", "address"),
        (b"hello there", "plain text"),
        (b"photos/My cat.JPG", "a file's name, not the file: with curl, write --data-binary @FILE"),
        (b"BM is not a bitmap", "plain text"),
        (b"P3 is not a pixmap", "plain text"),
        (bytes(range(256)), "no known image format"),
        (b"\x00\x00\x00\x18ftypmp42" + bytes(16), "video"),
        (b"\x00\x00\x00\x18ftypcrx \0\0\0\1crx isom", "raw file"),
        (b"FUJIFILMCCD-RAW 0201", "raw file"),
        (bytes(128) + b"DICM" + bytes(16), "DICOM"),
        (b'--x1\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n\xff\xd8', "multipart form"),
        (b"{\0\x47\x01", "no known image format"),
        ('{"inputs": "AAAA"}'.encode("utf-16"), "text in UTF-16, .* save it in UTF-8"),
        ('{"inputs": "AAAA"}'.encode("utf-16-le"), "text in UTF-16"),
        (b"\x00\x00\x02\x00\x01\x00" + bytes(16), "cursor"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2\nsize 12345\n", "git lfs pull"),
    ],
)
def test_bytes_that_are_no_image_are_named_for_what_they_are(data: bytes, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        decode(data)
    assert caught.value.message.startswith("cannot identify image file")


@pytest.mark.parametrize(("form", "how"), [one for one in SAVES if one[0] not in UNTOLD], ids=str)
def test_a_file_that_curl_d_sent_is_not_called_damaged(form: str, how: dict[str, object]) -> None:
    """``curl -d @photo.jpg`` takes every zero byte, CR and LF out of the file."""
    noise = np.random.default_rng(7).integers(0, 256, (240, 240, 3), np.uint8)
    data = saved(Pillow.fromarray(noise), form, **how)
    assert probe(data).width > 0
    with pytest.raises(BadInput, match=r"^cannot identify image file: its line ends .* --data-binary @FILE"):
        probe(data.translate(None, b"\0\r\n"))


def test_other_bytes_without_line_ends_are_not_taken_for_a_file_that_curl_d_sent() -> None:
    data = base64.b64decode(random.Random(0).randbytes(3000).hex())
    assert not any(sign in data for sign in (b"\0", b"\r", b"\n"))
    with pytest.raises(BadInput, match="belong to no known image format"):
        probe(data)


@pytest.mark.parametrize(("kind", "words"), [(np.float32, "32-bit floating-point"), (np.int32, "32-bit integer")])
def test_samples_whose_range_is_not_known_are_refused_with_advice(kind: type[np.generic], words: str) -> None:
    data = saved(Pillow.fromarray(np.ones((4, 4), kind)), "TIFF")
    with pytest.raises(BadInput, match=f"{words} samples.*convert it first"):
        decode(data)


def test_a_jpeg_of_twelve_bits_is_told_so_and_not_called_damaged() -> None:
    data = bytearray(saved(Pillow.fromarray(photo()), "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(BadInput, match="12-bit"):
        decode(bytes(data))


@pytest.mark.parametrize(("way", "name"), [(50001, "WebP"), (34712, "JPEG 2000"), (50002, "JPEG XL"), (34887, "LERC")])
def test_a_tiff_that_is_packed_as_nobody_here_reads_is_not_called_damaged(way: int, name: str) -> None:
    data = saved(Pillow.fromarray(photo()), "TIFF")
    plain, packed = (struct.pack("<HHIHH", 259, 3, 1, value, 0) for value in (1, way))
    assert plain in data
    with pytest.raises(BadInput, match=f"compressed with {name}.*save it with LZW"):
        decode(data.replace(plain, packed, 1))


def test_a_sound_tiff_of_an_unusual_kind_is_not_called_damaged() -> None:
    tags = ((256, 2), (257, 1), (258, 16), (259, 1), (262, 1), (273, 0), (277, 2), (278, 1), (279, 8))
    with pytest.raises(BadInput, match="2 samples of 16 bits"):
        decode(tiff("<", bytes(8), *tags))


def test_a_photo_drawn_in_hundreds_of_passes_is_refused() -> None:
    data = saved(Pillow.fromarray(photo()), "JPEG", progressive=True)
    scan = data.index(b"\xff\xda")
    with pytest.raises(BadInput, match="passes"):
        decode(data[:scan] + b"\xff\xda\x00\x08" * 400 + data[scan:])


@pytest.mark.parametrize("frame", [b"\xff\xc0", b"\xff\xc1", b"\xff\xc9", b"\xff\xca"])
def test_a_photo_drawn_over_and_over_is_refused_whatever_its_kind(frame: bytes) -> None:
    data = saved(Pillow.fromarray(photo()), "JPEG").replace(b"\xff\xc0", frame)
    scan = data.index(b"\xff\xda")
    with pytest.raises(BadInput, match="passes"):
        decode(data[:scan] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 200 + data[scan:])


def test_the_larger_a_photo_the_fewer_passes_may_be_drawn_over_it() -> None:
    """Half a megabyte of them kept a processor busy for ten seconds."""
    small = saved(Pillow.fromarray(photo()), "JPEG", progressive=True)
    size = small.index(b"\xff\xc2") + 5
    large = small[:size] + struct.pack(">HH", 8000, 8000) + small[size + 4 :]
    scan = small.index(b"\xff\xda")
    for data, passes in ((small, 80), (large, 20)):
        assert probe(data[:scan] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * passes + data[scan:]).format == "JPEG"
    with pytest.raises(BadInput, match="more than 31 passes"):
        probe(large[:scan] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 80 + large[scan:])


def test_what_stands_behind_a_photo_or_in_its_segments_is_no_pass_of_it() -> None:
    data = saved(Pillow.fromarray(photo()), "JPEG", progressive=True)
    thumbnails = b"\xff\xe5" + struct.pack(">H", 2 + 4 * 1000) + b"\xff\xda\0\x08" * 1000
    video = b"\xff\xda\0\x08" * 30_000
    np.testing.assert_array_equal(decode(data[:2] + thumbnails + data[2:] + video).rgb, decode(data).rgb)


def test_text_chunks_of_a_png_are_never_inflated() -> None:
    bomb = b"zTXtComment\0\0" + zlib.compress(bytes(80_000_000), 9)
    data = saved(Pillow.fromarray(photo()), "PNG")
    chunk = struct.pack(">I", len(bomb) - 4) + bomb + struct.pack(">I", zlib.crc32(bomb))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    np.testing.assert_array_equal(decode(data[:33] + chunk + data[33:]).rgb, photo())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024


def test_a_png_full_of_packed_orientations_costs_little() -> None:
    profile = b"zTXtRaw profile type exif\0\0" + zlib.compress(b"\n\n\n" + b"00" * 500_000, 9)
    chunk = struct.pack(">I", len(profile) - 4) + profile + struct.pack(">I", zlib.crc32(profile))
    data = saved(Pillow.fromarray(photo()), "PNG")
    began = time.process_time()
    np.testing.assert_array_equal(decode(data[:33] + chunk * 2000 + data[33:]).rgb, photo())
    assert time.process_time() - began < 2


def test_many_threads_decode_at_once_and_agree() -> None:
    files = [saved(in_mode("RGB"), form, **how) for form, how in SAVES]
    alone = [decode(data).rgb for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: decode(data).rgb, files * 10))
    for index, rgb in enumerate(together):
        np.testing.assert_array_equal(rgb, alone[index % len(files)])


def test_mutated_files_raise_nothing_but_errors_of_the_caller() -> None:
    rng = random.Random(11)
    files = [saved(in_mode(mode), form, **how) for mode, form, how in cases()]
    for _ in range(3000):
        data = bytearray(rng.choice(files))
        for _ in range(rng.choice((1, 2, 8))):
            at = rng.randrange(min(len(data), rng.choice((64, 1 << 20))))
            match rng.randrange(4):
                case 0:
                    data[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
                case 1:
                    data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff"))
                case 2:
                    del data[at : at + rng.choice((1, 8, 100))]
                    data += b"\0" if not data else b""
                case _:
                    data[at:at] = rng.randbytes(rng.choice((1, 8)))
        try:
            decode(bytes(data), Limits(max_pixels=1_000_000))
        except (BadInput, TooLarge):
            continue


def test_coco_photos_have_identical_pixels_to_pillow(data: Path) -> None:
    photos = sorted((data / "images" / "coco").glob("*.jpg"))
    assert len(photos) == 60
    for path in photos:
        np.testing.assert_array_equal(decode(path.read_bytes()).rgb, by_pillow(path.read_bytes()), str(path.name))


def test_every_file_of_the_format_collection_decodes_as_expected(data: Path) -> None:
    folder = data / "images" / "formats"
    reference = decode((folder / "rgb.png").read_bytes()).rgb.astype(int)
    for name, expected in json.loads((folder / "expected.json").read_text()).items():
        content = (folder / name).read_bytes()
        header, image = probe(content), decode(content)
        assert image.format == expected["format"], name
        assert [header.width, header.height] == expected["stored_size"], name
        assert [image.rgb.shape[1], image.rgb.shape[0]] == expected["upright_size"], name
        np.testing.assert_allclose(image.rgb.mean((0, 1)), expected["mean_rgb"], atol=0.01, err_msg=name)
        if (difference := expected.get("mean_abs_diff_to_rgb_png")) is not None:
            assert abs(np.abs(image.rgb - reference).mean() - difference) < 0.01, name


DECODABLE = {"frames_10000.gif", "ztxt_bomb.png"}


def test_every_hostile_file_is_refused_cheaply_and_clearly(data: Path) -> None:
    for path in sorted((data / "images" / "bad").iterdir()):
        if path.suffix == ".json":
            continue
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if path.name in DECODABLE:
            decode(path.read_bytes())
        else:
            with pytest.raises((BadInput, TooLarge)) as caught:
                decode(path.read_bytes())
            assert isinstance(caught.value, CallError)
            assert " at 0x" not in caught.value.message, path.name
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024, path.name
