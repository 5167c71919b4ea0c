"""What bytes are, by their first bytes: image formats, video containers, and what people send by mistake."""

from __future__ import annotations

from typing import Final

ACCEPTED: Final = "JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, HEIC, JPEG 2000, ICO, PNM, TGA and MPO"

AVIF_BRANDS: Final = {b"avif", b"avis"}
HEIF_BRANDS: Final = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

CANON_RAW: Final = b"crx "
DICOM: Final = b"DICM"
DICOM_PREAMBLE: Final = 128

QUICKTIME_BOXES: Final = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
ASF_GUID: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
TS_PACKET: Final = 188
M2TS_PACKET: Final = 192

LEAST_STRIPPED: Final = 1024
STRIPPED_HEAD: Final = 4096
LOST: Final = (b"\0", b"\r", b"\n")

NAME_ENDS: Final = (b".jpg", b".jpeg", b".png", b".webp", b".bmp", b".tif", b".tiff", b".gif", b".mp4")

RAW: Final = "a camera's raw file, which is not accepted: export it as JPEG"

UTF16: Final = "text in UTF-16, as PowerShell's > writes it: save it in UTF-8"

FOREIGN: Final[tuple[tuple[bytes, str], ...]] = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"8BPS", "a Photoshop file"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"\xff\x0a", "a JPEG XL image, which is not accepted"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image, which is not accepted"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image, which is not accepted"),
    (b"DDS ", "a DDS texture, which is not accepted"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"version https://git-lfs", "a pointer of Git LFS in place of the file itself: fetch that with `git lfs pull`"),
    (b"#?RADIANCE", "a Radiance HDR image, which is not accepted"),
    (b"ID3", "an audio file"),
    (b"OggS", "an Ogg file"),
    (b"fLaC", "an audio file"),
    (b"FLV\x01", "a Flash video, which is not accepted"),
    (b"\x00\x00\x02\x00", "a Windows cursor, which is not accepted"),
    (b"icns", "an Apple icon, which is not accepted"),
    (b"PF\n", "a PFM image of floating-point numbers, which is not accepted"),
    (b"Pf\n", "a PFM image of floating-point numbers, which is not accepted"),
    (b"FUJIFILMCCD-RAW", RAW),
    (b"IIRO", RAW),
    (b"IIU\x00", RAW),
    (b"\xff\xfe", UTF16),
    (b"\xfe\xff", UTF16),
    (b'{\0"\0', UTF16),
)
"""First bytes of things that are not images of ours, and what to call them."""


def image_format(data: bytes) -> str | None:
    """The name of the image format, or None; TGA has no signature and is never named here."""
    head = data[:32]
    for signature, name in _IMAGES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in b" \t\r\n#" and len(head) > 2:
        return "PPM"
    if head[4:8] == b"ftyp":
        return _boxed_image(data)
    return None


def container(data: bytes) -> str | None:
    """The name of the video container, or None. GIF counts as an image here."""
    head = data[:16]
    if head[4:8] == b"ftyp":
        return None if _boxed_image(data) or head[8:12] == CANON_RAW else "MP4"
    if head[4:8] in QUICKTIME_BOXES:
        return "QuickTime"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "Matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI"
    if head == ASF_GUID:
        return "ASF"
    if head[:4] in (b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"):
        return "MPEG"
    if _is_transport_stream(data):
        return "MPEG-TS"
    return None


def is_stripped(data: bytes) -> bool:
    """Whether bytes are an image without its zero bytes and line ends, as ``curl -d @file`` sends it.

    Every image of more than a kilobyte has one of them near its start.
    """
    head = data[:STRIPPED_HEAD]
    if len(head) < LEAST_STRIPPED or any(sign in head for sign in LOST):
        return False
    return head.startswith(_STRIPPED) or b"ftyp" in head[:8]


def looks_like(data: bytes) -> str:
    """What to tell the sender about bytes that are no image, as in "it looks like ...": never echoes them."""
    if video := container(data):
        return f"it looks like a video ({video}), and this call takes a still image"
    for signature, name in FOREIGN:
        if data.startswith(signature):
            return f"it looks like {name}"
    if data[4:12] == b"ftyp" + CANON_RAW:
        return f"it looks like {RAW}"
    if data.startswith(DICOM, DICOM_PREAMBLE):
        return "it looks like a DICOM file, which is not accepted: export it as PNG"
    text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"--") and b"content-disposition:" in text:
        return "it looks like a multipart form: leave its Content-Type header to the HTTP library"
    if b"<svg" in text:
        return "it looks like an SVG drawing (vector graphics), which is not accepted: export it as PNG"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "it looks like an HTML page: perhaps the address of a page was used in place of the image's own"
    if text.startswith(b"<?xml"):
        return "it looks like an XML document"
    if text.startswith((b"data:image/", b"/9j/", b"ivborw0kgo", b"r0lgod", b"uklgr")):
        return "it looks like base64 text: send the decoded bytes, or put the text in a JSON body"
    if text.startswith((b"{", b"[")) and b"\0" not in text:
        return "it looks like JSON"
    if text.startswith((b"http://", b"https://")):
        return "it looks like an address, not an image"
    if text and all(byte in _PRINTABLE for byte in text):
        if data.strip().lower().endswith(NAME_ENDS) and len(data) < LEAST_STRIPPED and b"\n" not in data.strip():
            return "it looks like a file's name, not the file: with curl, write --data-binary @FILE, with the @"
        return "it looks like plain text"
    return "its first bytes belong to no known image format"


_IMAGES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"BM", "BMP"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)

_STRIPPED: Final = (b"RIFF", *(sent for sign, _ in _IMAGES if len(sent := sign.translate(None, b"".join(LOST))) > 1))

_PRINTABLE: Final = frozenset(range(0x20, 0x7F)) | {0x09, 0x0A, 0x0D}


def _boxed_image(data: bytes) -> str | None:
    """AVIF and HEIF share their box structure with MP4; the brands tell them apart."""
    size = int.from_bytes(data[:4], "big")
    major = data[8:12]
    brands = {data[at : at + 4] for at in range(16, min(size, len(data), 256), 4)} | {major}
    if major not in AVIF_BRANDS | HEIF_BRANDS:
        return None
    return "AVIF" if brands & AVIF_BRANDS and major not in (b"heic", b"heix") else "HEIF"


def _is_transport_stream(data: bytes) -> bool:
    """Three sync bytes in a row, one packet apart, with or without the four bytes that Blu-ray puts before each."""
    return any(
        len(data) > start + 2 * size and all(data[start + k * size] == 0x47 for k in range(3))
        for start, size in ((0, TS_PACKET), (4, M2TS_PACKET))
    )
