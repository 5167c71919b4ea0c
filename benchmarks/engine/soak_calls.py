"""The calls of the soak: what is sent, and what may come back."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.peers.caller import request

from saccade.engine.golden import jpeg, picture

DETECT, SEGMENT, POSE, CLASSIFY = "yolov8n", "yolo11n-seg", "yolo11n-pose", "yolo11n-cls"
ORIENTED, OTHER = "yolov8n-obb_pothole", "yolo26n"
REFUSED = frozenset({400, 413, 415, 422})
SEEN = frozenset({200})
EDGE = "saccade-soak"


@dataclass(frozen=True)
class Kind:
    """Calls of one kind, as whole requests. ``weight`` of all; ``leaves``: the caller is gone when the request was
    sent, or half of it; ``counted``: equal calls must find equally many objects; ``probe``: its latency is told."""

    name: str
    weight: float
    requests: Sequence[bytes]
    statuses: frozenset[int] = SEEN
    leaves: Literal["", "sent", "half"] = ""
    counted: bool = True
    probe: bool = False


def kinds(data: Path, port: int) -> list[Kind]:
    """Everything, for a server on this port."""
    photos = [file.read_bytes() for file in sorted((data / "images" / "coco").glob("*.jpg"))[:12]]
    formats = [file.read_bytes() for file in sorted((data / "images" / "formats").iterdir()) if _plain(file.name)]
    broken = [file.read_bytes() for file in sorted((data / "images" / "bad").iterdir()) if _hopeless(file.name)]
    clips = [(data / "videos" / f"synthetic_12frames_160x120.{end}").read_bytes() for end in ("mp4", "webm", "gif")]
    large = jpeg(picture(3000, 4000))
    pothole = (data / "images" / "pothole.jpg").read_bytes()

    def bare(model: str, bodies: Sequence[bytes], *headers: tuple[str, str]) -> list[bytes]:
        return [request(port, f"/models/{model}", body, headers=headers) for body in bodies]

    def words(model: str, bodies: Sequence[bytes], **parameters: object) -> list[bytes]:
        texts = [base64.b64encode(body).decode() for body in bodies]
        told = [json.dumps({"inputs": text, "parameters": parameters}).encode() for text in texts]
        return [request(port, f"/models/{model}", body, "application/json") for body in told]

    def forms(path: str, bodies: Sequence[bytes], part: str = "file", **fields: str) -> list[bytes]:
        return [request(port, path, *form(fields, part, body)) for body in bodies]

    fresh = ("x-use-cache", "false")
    hub = {"model": f"https://hub.ultralytics.com/models/{DETECT}"}
    return [
        Kind("hf photo", 20, bare(DETECT, photos[:6], fresh), probe=True),
        Kind("hf photo, cached", 15, bare(DETECT, photos)),
        Kind("hf words, labels", 10, words(CLASSIFY, photos, top_k=3)),
        Kind("hf masks", 4, bare(SEGMENT, photos[:4])),
        Kind("hf formats", 8, bare(DETECT, formats, fresh)),
        Kind("hf 12 megapixels", 0.5, bare(DETECT, [large], fresh)),
        Kind("v1 keypoints", 6, forms(f"/v1/predict/{POSE}", photos[:6], "image", size="640", confidence="0.3")),
        Kind("v1 flat", 4, forms(f"/v1/predict/{DETECT}?response=l2", photos[:6], "image")),
        Kind("hub form", 6, forms("/", photos[:6], conf="0.4", **hub)),
        Kind("platform outlines", 4, forms("/predict", photos[:6], model=SEGMENT)),
        Kind("platform corners", 0.4, forms(f"/api/models/me/them/{ORIENTED}/predict", [pothole], imgsz="320")),
        Kind("v1, another model", 0.4, forms(f"/v1/predict/{OTHER}", photos[:2], "image")),
        Kind("drawn", 1, forms("/predict", photos[:3], model=DETECT, annotated="true"), counted=False),
        Kind("video", 1.5, forms("/predict", clips, model=DETECT)),
        Kind("video, left", 0.5, forms("/predict", clips, model=DETECT), leaves="sent"),
        Kind("broken image", 4, bare(DETECT, broken, fresh), REFUSED),
        Kind("broken image in a form", 2, forms("/predict", broken, model=CLASSIFY), REFUSED),
        Kind("broken words", 2, _broken_words(port), REFUSED),
        Kind("wrong arguments", 2, forms("/predict", photos[:1], model=DETECT, conf="seven"), REFUSED),
        Kind("nobody's model", 2, bare("no/such-model", photos[:1]), frozenset({404})),
        Kind("no time", 2, bare(DETECT, photos[:3], fresh, ("x-request-timeout", "0.001")), frozenset({503, 504})),
        Kind("left", 3, bare(SEGMENT, photos[6:], fresh), leaves="sent"),
        Kind("left half-way", 2, bare(DETECT, photos[6:], fresh), leaves="half"),
        Kind("left half-way in a form", 1, forms("/predict", photos[6:], model=POSE), leaves="half"),
        Kind("no HTTP", 0.5, [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20], leaves="sent"),
        Kind("pages", 3, [_get(path) for path in ("/health", "/metrics", "/info", f"/status/{DETECT}")], counted=False),
    ]


def form(fields: dict[str, str], part: str, photo: bytes) -> tuple[bytes, str]:
    """The body and the media type of a form with fields and one file."""
    lines = [
        f'--{EDGE}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}' for name, text in fields.items()
    ]
    head = f'--{EDGE}\r\nContent-Disposition: form-data; name="{part}"; filename="it"\r\n\r\n'
    body = "".join(f"{line}\r\n" for line in lines).encode() + head.encode() + photo + f"\r\n--{EDGE}--\r\n".encode()
    return body, f"multipart/form-data; boundary={EDGE}"


def _broken_words(port: int) -> list[bytes]:
    bodies = (b"{", b'{"inputs": 7}', b'{"inputs": "no base64!"}', b"[]", b'{"inputs": "aGFsbG8="}')
    return [request(port, f"/models/{DETECT}", body, "application/json") for body in bodies]


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def _plain(name: str) -> bool:
    """Formats of one frame; of files with several, the dialects take one frame or all."""
    return not any(word in name for word in ("animated", "multipage", "two_frames", "3000", ".json"))


def _hopeless(name: str) -> bool:
    """Files that must be refused (some others may be read in part)."""
    words = ("bomb_", "header_crc", "garbage", "random", "page", "text", "drawing", "zero", "truncated_header")
    return any(word in name for word in words)
