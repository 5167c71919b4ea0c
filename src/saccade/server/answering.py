"""From an Outgoing to bytes on the wire, with the headers that every answer carries."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Iterable, Mapping
from random import getrandbits

from starlette.types import Send

from saccade.call import Answer
from saccade.dialects.dialect import Outgoing
from saccade.dialects.yolo_refusals import iso_time, seconds
from saccade.errors import Busy, Error
from saccade.server.access import Caller, Gate, Standing

HeaderList = list[tuple[bytes, bytes]]

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=;+/@-]{0,127}")
CONTROL = re.compile(r"[\x00-\x1f\x7f]+")

EXPOSED = (
    "x-request-id, x-compute-type, x-compute-time, x-compute-images, x-total-time, x-queue-time, x-inference-time, "
    "x-error-message, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, ratelimit, ratelimit-policy, "
    "retry-after, server-timing, x-imgsz, x-ignored-arguments, link, x-hf-warning"
)
USUAL_HEADERS = (
    "authorization, content-type, user-agent, x-api-key, x-use-cache, x-wait-for-model, x-load-model, x-hf-bill-to, "
    "x-request-id, x-request-timeout, x-request-priority, x-compute-type, accept"
)
CHALLENGE = (b"www-authenticate", b'Bearer realm="saccade"')
"""What HTTP wants with every 401; clients like Java's fail without it, and browsers ask for nothing at this scheme."""

CORS = (
    (b"access-control-allow-credentials", b"true"),
    (b"access-control-expose-headers", EXPOSED.encode()),
    (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
)
"""What every answer tells where pages may call at all."""

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


def request_id(headers: Mapping[str, str]) -> str:
    """The caller's own id, if it is fit to be written into a header and a log, else a new one."""
    given = headers.get("x-request-id") or headers.get("x-amzn-trace-id") or ""
    if given and SAFE_ID.fullmatch(given):
        return given
    return f"{getrandbits(128):032x}"  # it keeps no secret, and this costs no system call


def timing_header(answers: Iterable[Answer], total_ms: float) -> str:
    """Where the time of this request went, summed over the answers, as a Server-Timing header.

    A cached answer knows the times of the call that made it, none of which was spent now.
    """
    load = queue = decode = pre = infer = post = 0.0
    hits = largest = 0
    for answer in answers:
        if answer.cached:
            hits += 1
            continue
        timings = answer.timings
        load += timings.load_ms
        queue += timings.queue_ms
        decode += timings.decode_ms
        pre += timings.preprocess_ms
        infer += timings.inference_ms
        post += timings.postprocess_ms
        largest = max(largest, answer.batch_size)
    text = (
        f"load;dur={load:.2f}, queue;dur={queue:.2f}, decode;dur={decode:.2f}, pre;dur={pre:.2f}, "
        f"infer;dur={infer:.2f}, post;dur={post:.2f}, total;dur={total_ms:.2f}"
    )
    if hits:
        text += ", cache;desc=hit"
    return f'{text}, batch;desc="{largest}"' if largest > 1 else text


def quota_headers(standing: Standing, now_s: float, iso: bool) -> list[tuple[str, str]]:
    """How the key stands, in the words of all three APIs; ``iso`` writes the reset as a date."""
    wait_s = math.ceil(standing.wait_s(now_s))
    reset = iso_time(standing.reset_epoch_s) if iso else str(math.ceil(standing.reset_epoch_s))
    return [
        ("x-ratelimit-limit", str(standing.limit)),
        ("x-ratelimit-remaining", str(standing.remaining)),
        ("x-ratelimit-reset", reset),
        ("retry-after", str(wait_s if standing.remaining == 0 else 0)),
        ("ratelimit", f'"api";r={standing.remaining};t={wait_s}'),
        ("ratelimit-policy", f'"sliding window";"api";q={standing.limit};w={standing.window_s}'),
    ]


async def standing_of(gate: Gate, caller: Caller | None) -> Standing | None:
    """How a caller stands, for an answer that took nothing; None for nobody, a key without a limit, and if nobody can
    say."""
    with contextlib.suppress(Exception):  # what is being answered matters more
        return None if caller is None else await gate.standing(caller)
    return None


async def standing_headers(gate: Gate, caller: Caller | None, *, iso: bool = False) -> dict[str, str]:
    """The same as headers, for an answer that took nothing."""
    standing = await standing_of(gate, caller)
    return {} if standing is None else dict(quota_headers(standing, time.time(), iso))


def come_back(error: Error) -> dict[str, str]:
    """When who cannot be served now may ask again, as a header; none where that would not help."""
    return {"retry-after": str(seconds(error.retry_after_s))} if isinstance(error, Busy) else {}


def may_read(origin: str, allowed: tuple[str, ...]) -> bool:
    """Whether pages of this origin may call."""
    return origin != "" and ("*" in allowed or origin in allowed)


def cors_headers(origin: str, allowed: tuple[str, ...]) -> HeaderList:
    """Headers that let a page of this origin read the answer. As at Hugging Face, who is no such page gets all but the
    first: without Vary, a cache on the way would give to a page what it keeps of a program's call."""
    granted = [(b"access-control-allow-origin", encoded(origin))] if may_read(origin, allowed) else []
    return [*granted, *CORS] if allowed else []


def preflight(headers: Mapping[str, str], allowed: tuple[str, ...]) -> HeaderList:
    """Headers of the answer to a browser's OPTIONS request."""
    origin = headers.get("origin", "")
    if not may_read(origin, allowed):
        return [(b"allow", METHODS.encode())]
    granted = cors_headers(origin, allowed)
    asked = headers.get("access-control-request-headers", "")
    granted += [
        (b"access-control-allow-methods", METHODS.encode()),
        (b"access-control-allow-headers", encoded(asked or USUAL_HEADERS)),
        (b"access-control-max-age", b"86400"),
    ]
    if headers.get("access-control-request-private-network") == "true":
        granted.append((b"access-control-allow-private-network", b"true"))
    return granted


def encoded(value: str) -> bytes:
    """A header value that can break neither the head nor the HTTP server."""
    plain = value if value.isprintable() else CONTROL.sub(" ", value)
    return plain.strip().encode("latin-1", "replace")


async def send_answer(send: Send, outgoing: Outgoing, extra: HeaderList) -> int:
    """Sends the answer; headers of ``outgoing`` win over ``extra``. Returns the number of body bytes."""
    own = [(name.lower().encode("latin-1", "replace"), encoded(value)) for name, value in outgoing.headers]
    named = {name for name, _ in own}
    head = [(b"content-type", outgoing.media_type.encode("latin-1", "replace")), *own]
    head += [pair for pair in extra if pair[0] not in named]
    if outgoing.status == 401:
        head.append(CHALLENGE)
    if outgoing.stream is None:
        if outgoing.status not in (204, 304):
            head.append((b"content-length", str(len(outgoing.body)).encode()))
        await send({"type": "http.response.start", "status": outgoing.status, "headers": head})
        await send({"type": "http.response.body", "body": outgoing.body})
        return len(outgoing.body)
    head.append((b"x-accel-buffering", b"no"))
    await send({"type": "http.response.start", "status": outgoing.status, "headers": head})
    size = 0
    async for chunk in outgoing.stream:
        size += len(chunk)
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    return size
