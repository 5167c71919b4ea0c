"""The Ultralytics HUB inference API (2024 to 2026): ``POST /`` with ``model`` and ``file``.

On a shared server the form names the model; on one that serves a single model, or was told of a default, it need not.
Keys are sorted at every level, as HUB's clients saw them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, cast

import msgspec

from saccade import errors
from saccade.call import Answer
from saccade.dialects import arguments, inputs, references, yolo_answers
from saccade.dialects.arguments import Face
from saccade.dialects.dialect import Ask, Desk, Incoming, Outgoing, Route, status_of
from saccade.dialects.yolo_ask import YoloAsk, ask, no_picture, words_of
from saccade.dialects.yolo_refusals import retry_headers, told
from saccade.errors import BadInput

NO_PICTURE: Final = "No image or video came with the request. Send it as the form's file part 'file'."
NO_MODEL: Final = (
    "No model is named. Send the form field 'model', for example https://hub.ultralytics.com/models/MODEL_ID or a "
    "model's name."
)


class Hub:
    """``topk`` labels are answered unless the call says otherwise (1 is the strict form of HUB's own time).
    ``default`` is the model of calls that name none."""

    name = "hub"
    routes: tuple[Route, ...] = (Route(("POST",), "/"),)

    def __init__(self, *, topk: int = 5, clamp: bool = False, default: str | None = None) -> None:
        self._face = Face(topk=topk, clamp=clamp)
        self._default = default

    def claims(self, incoming: Incoming) -> bool:
        """Forms are for HUB, and so is JSON in its words; what names ``inputs`` or ``instances``, and bare images, are
        not."""
        return speaks_form(incoming)

    def parse(self, incoming: Incoming, desk: Desk) -> Ask:
        """One call. Nothing is ever answered from a default image, nor from a model that nobody chose."""
        words, picture = words_of(incoming)
        if picture is None:
            raise no_picture(NO_PICTURE, words)
        named = arguments.text(words, "model") or self._default or only_model(desk)
        if not named:
            raise BadInput(NO_MODEL)
        card = references.find(named, desk)
        return ask(incoming, words, picture, self._face, "hub", references.called(named, card), card, desk)

    def render(self, ask: Ask, answers: Sequence[Answer]) -> Outgoing:
        """``images`` and ``metadata``."""
        return yolo_answers.render(cast(YoloAsk, ask), answers)

    def render_stream(self, ask: Ask, answers: AsyncIterator[Answer]) -> AsyncIterator[bytes]:
        """An entry per frame."""
        return yolo_answers.render_stream(cast(YoloAsk, ask), answers)

    def refuse(self, error: errors.Error, incoming: Incoming) -> Outgoing:
        """``error``, and the same text as ``message`` for clients that still read the first API's word."""
        body = {"error": told(error), "message": told(error)}
        return Outgoing(status_of(error), msgspec.json.encode(body), headers=retry_headers(error, iso=False))

    def describe(self, incoming: Incoming, desk: Desk) -> Outgoing:
        """HUB describes nothing."""
        return self.refuse(errors.CallError("There is nothing to describe here."), incoming)


def speaks_form(incoming: Incoming) -> bool:
    """Whether a request on a shared path is written in the words of an Ultralytics API.

    Bodies are judged by their bytes: curl calls everything a form, and others say nothing. A body is empty when the
    request is refused unread.
    """
    body = incoming.body
    members = inputs.json_members(body)
    if members is not None:
        if members.keys() & OTHERS or any(members.get(name) == b"{" for name in OTHERS_OBJECTS):
            return False
        if members.keys() & NAMES:
            return True
    elif inputs.is_multipart(incoming.headers):
        return not inputs.has_part(body, "inputs")
    elif (start := JSON_START.match(body)) is not None:
        return start[1] == b"{" and _looks_like_ours(body)
    elif _is_urlencoded(incoming.headers):
        head = b"&" + body[:HEAD]
        if any(b"&%b=" % name.encode() in head for name in OTHERS):
            return False
        if any(b"&%b=" % word in head for word in WORDS):
            return True
    return "x-api-key" in incoming.headers or not QUERY_WORDS.isdisjoint(
        inputs.unnumbered(name) for name, value in incoming.query if value
    )


def _looks_like_ours(broken: bytes) -> bool:
    """Who is to say what is wrong with a JSON object that is damaged or cut off."""
    head = broken[:HEAD]
    return not any(b'"%b"' % name.encode() in head for name in OTHERS) and any(b'"%b"' % word in head for word in WORDS)


def _is_urlencoded(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").split(";")[0].strip().lower() == "application/x-www-form-urlencoded"


OTHERS: Final = frozenset({"inputs", "instances"})
OTHERS_OBJECTS: Final = ("parameters", "options")
"""Hugging Face's names; the latter hold objects there, and mean nothing in an Ultralytics API."""

NAMES: Final = frozenset(
    (*arguments.FILES, *arguments.ADDRESSES, "model", *(name for names in arguments.ALIASES.values() for name in names))
)
WORDS: Final = tuple(name.encode() for name in sorted(NAMES))
QUERY_WORDS: Final = arguments.KNOWN - {"threshold", "top_k", "candidate_labels", "candidate_labels[]"}
"""All of these APIs' own but those that mean something to Hugging Face, too."""
JSON_START: Final = re.compile(rb'(?:\xef\xbb\xbf)?\s*([{\["])')
HEAD: Final = 4096
"""Bytes of a body in which words are looked for when it cannot be read."""


def only_model(desk: Desk) -> str | None:
    """The name of the one model that is served, if it is the only one."""
    cards = desk.cards()
    return cards[0].name if len(cards) == 1 else None


DIALECT = Hub()
