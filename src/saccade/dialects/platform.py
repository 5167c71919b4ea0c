"""The Ultralytics Platform API (2026): predictions at ``/predict`` and ``/api/models/…/predict``, and its listings.

Owners and projects mean nothing here, so ``/api/models/OWNER/PROJECT/MODEL`` finds a model that is registered under
the whole path, under its last two parts, or under its last part.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, cast

import msgspec

from saccade import errors
from saccade.call import Answer
from saccade.card import Card
from saccade.dialects import arguments, references, yolo_answers
from saccade.dialects.arguments import Face
from saccade.dialects.dialect import Ask, Desk, Incoming, Outgoing, Route, status_of
from saccade.dialects.hub import only_model, speaks_form
from saccade.dialects.yolo_ask import YoloAsk, ask, no_picture, task_of, words_of
from saccade.dialects.yolo_refusals import iso_time, retry_headers, seconds, told
from saccade.errors import BadInput

NO_PICTURE: Final = "No image or video came with the request. Send it as the form's file part 'file', or as 'source'."
NO_MODEL: Final = (
    "No model is named. Call /api/models/OWNER/PROJECT/MODEL/predict or /api/models/MODEL/predict, or send the field "
    "'model'."
)
OWNER: Final = "local"
PROJECT: Final = "models"
REGION: Final = "eu"
"""The SDK knows three regions; this server is in none of them."""
LICENCES: Final = frozenset(
    {"Apache-2.0", "MIT", "BSD-3-Clause", "AGPL-3.0", "GPL-3.0", "LGPL-3.0", "MPL-2.0", "CC0-1.0"}
)
UNKNOWN_DATE: Final = "1970-01-01T00:00:00.000Z"
NOBODY_COUNTS: Final = {"starCount": 0, "isStarred": False, "createdAt": UNKNOWN_DATE, "updatedAt": UNKNOWN_DATE}


class Platform:
    """``default`` is the model of calls to ``/predict`` that name none."""

    name = "platform"
    routes: tuple[Route, ...] = (
        Route(("POST",), "/predict"),
        Route(("POST",), "/api/models/{owner}/{project}/{model}/predict"),
        Route(("POST",), "/api/models/{owner}/{model}/predict"),
        Route(("POST",), "/api/models/{model}/predict"),
        Route(("GET",), "/api/models", "describe"),
        Route(("GET",), "/api/models/{owner}/{project}/{model}", "describe"),
        Route(("GET",), "/api/models/{owner}/{project}", "describe"),
        Route(("GET",), "/api/models/{model}", "describe"),
        Route(("GET",), "/api/projects/{owner}", "describe"),
    )

    def __init__(self, *, topk: int = 5, clamp: bool = False, default: str | None = None) -> None:
        self._face = Face(imgsz=None, iou=0.7, topk=topk, clamp=clamp)
        self._default = default

    def claims(self, incoming: Incoming) -> bool:
        """``/predict`` is shared: forms and JSON in these words are the Platform's."""
        return incoming.path != "/predict" or speaks_form(incoming)

    def parse(self, incoming: Incoming, desk: Desk) -> Ask:
        """One call."""
        words, picture = words_of(incoming)
        if picture is None:
            raise no_picture(NO_PICTURE, words)
        named = _in_path(incoming) or arguments.text(words, "model") or self._default or only_model(desk)
        if not named:
            raise BadInput(NO_MODEL)
        card = references.find(named, desk)
        return ask(incoming, words, picture, self._face, "platform", references.called(named, card), card, desk)

    def render(self, ask: Ask, answers: Sequence[Answer]) -> Outgoing:
        """``images`` and ``metadata``."""
        return yolo_answers.render(cast(YoloAsk, ask), answers)

    def render_stream(self, ask: Ask, answers: AsyncIterator[Answer]) -> AsyncIterator[bytes]:
        """An entry per frame."""
        return yolo_answers.render_stream(cast(YoloAsk, ask), answers)

    def refuse(self, error: errors.Error, incoming: Incoming) -> Outgoing:
        """``error`` and nothing else, but for a spent quota, which also says until when."""
        body: dict[str, object] = {"error": told(error)}
        if isinstance(error, errors.QuotaSpent):
            body = {
                "error": "Rate limit exceeded",
                "retryAfter": seconds(error.retry_after_s),
                "resetAt": iso_time(error.reset_epoch_s),
            }
        return Outgoing(status_of(error), msgspec.json.encode(body), headers=retry_headers(error, iso=True))

    def describe(self, incoming: Incoming, desk: Desk) -> Outgoing:
        """Models and the one project that holds them, as the SDK lists and shows them."""
        if "project" in incoming.match and incoming.path.endswith("/predict"):  # no project or model is called that
            text = f"{incoming.method} is not allowed here. Allowed: POST. POST an image to this address."
            refused = self.refuse(errors.CallError(text), incoming)
            return Outgoing(status=405, body=refused.body, headers=(*refused.headers, ("allow", "POST")))
        if incoming.path.startswith("/api/projects"):
            owner = incoming.match["owner"]
            return _fine({"projects": [_project(owner, len(desk.cards()))], "total": 1, "region": REGION})
        owner, project = incoming.match.get("owner", OWNER), incoming.match.get("project", PROJECT)
        named = _in_path(incoming)
        if named is None or "model" not in incoming.match:
            return _fine({"models": [_described(card, owner, project) for card in desk.cards()], "region": REGION})
        try:
            model = _described(references.find(named, desk), owner, project)
        except errors.UnknownModel as error:
            return self.refuse(error, incoming)
        return _fine({"model": model | {"metadata": {}}, "isOwner": True})


def _in_path(incoming: Incoming) -> str | None:
    parts = (incoming.match.get(name) for name in ("owner", "project", "model"))
    return "/".join(part for part in parts if part) or None


def _described(card: Card, owner: str, project: str) -> dict[str, object]:
    return {
        "id": card.name,
        "owner": owner,
        "project": project,
        "projectName": project,
        "model": card.name.rsplit("/", 1)[-1],
        "name": card.name,
        "visibility": "private",
        "status": "completed",
        "task": task_of(card),
        "license": card.licence if card.licence in LICENCES else "Other",
        "classNames": [card.labels[number] for number in sorted(card.labels)],
        "hasWeights": True,
        **NOBODY_COUNTS,
    }


def _project(owner: str, models: int) -> dict[str, object]:
    return {
        "id": PROJECT,
        "owner": owner,
        "project": PROJECT,
        "name": PROJECT,
        "visibility": "private",
        "modelCount": models,
        **NOBODY_COUNTS,
    }


def _fine(body: object) -> Outgoing:
    return Outgoing(body=msgspec.json.encode(body))


DIALECT = Platform()
