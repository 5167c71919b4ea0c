"""Damaged pictures and videos leave the server's log to its own words."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.clients.houses import Served, served

pytestmark = pytest.mark.heavy

OURS = re.compile(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S* (POST /|INFO saccade\.)")
CHANGES = (1, 4, 16)
"""Bytes that are changed in each of the damaged copies of a file."""


@pytest.fixture(scope="module")
def house(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = tmp_path_factory.mktemp("models")
    (models / "yolov8n-obb.onnx").symlink_to(data / "models" / "yolov8n-obb_pothole.onnx")
    with served(tmp_path_factory.mktemp("house"), [models], "--no-auth") as running:
        yield running


def test_no_library_writes_into_the_log(house: Served, data: Path) -> None:
    chance = random.Random(1)
    files = [path for path in sorted((data / "images" / "bad").iterdir()) if path.suffix != ".json"]
    sound = [
        *(path for path in sorted((data / "images" / "formats").iterdir()) if path.suffix in (".png", ".tif", ".jpg")),
        *(data / "images" / "formats" / name for name in ("rgb.avif", "rgb.heic", "rgb.jp2", "lossy.webp", "rgb.bmp")),
        *sorted((data / "videos").glob("synthetic*")),
    ]
    bodies = [path.read_bytes() for path in files]
    bodies += [damaged(path.read_bytes(), count, chance) for path in sound for count in CHANGES]
    refused = 0
    with httpx.Client(base_url=house.url, timeout=120, trust_env=False) as client:
        for body in bodies:
            reply = client.post("/v1/predict/yolov8n-obb", files={"image": body})
            assert reply.status_code in (200, 400, 413), reply.text
            refused += reply.status_code != 200
    assert refused > len(files)
    lines = house.lines("", wait_s=1.5)
    assert [line for line in lines if not OURS.match(line)] == []
    assert len([line for line in lines if "POST" in line]) == len(bodies)


def damaged(data: bytes, count: int, chance: random.Random) -> bytes:
    """A copy with so many bytes changed; the checksums of a PNG are made right again, so that its decoder goes on."""
    changed = bytearray(data)
    for _ in range(count):
        changed[chance.randrange(min(len(changed), chance.choice((200, len(changed)))))] = chance.randrange(256)
    return mended(bytes(changed)) if data.startswith(b"\x89PNG") and count > 1 else bytes(changed)


def mended(data: bytes) -> bytes:
    out, at = data[:8], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            break
        out += data[at : at + 8 + length] + struct.pack(">I", zlib.crc32(data[at + 4 : at + 8 + length]))
        at += 12 + length
    return out + data[at:]
