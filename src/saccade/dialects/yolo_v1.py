"""The first Ultralytics API (2023 to 2024): ``POST /v1/predict/MODEL_ID``, and what its SDK asks besides.

Three generations lived at this address. The first answers ``success, message, data`` with unrounded pixels, the second
the same with flat lists of 0 to 1, the third in the envelope of HUB. ``?response=l1|l2|hub`` chooses; without it, a
file called ``file``, or ``imgsz`` or ``conf`` without any of the older names, means the third, all else the first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, cast

import msgspec

from saccade import errors
from saccade.call import Answer
from saccade.card import Card
from saccade.dialects import arguments, inputs, references, yolo_answers
from saccade.dialects.arguments import Face, Response, Words
from saccade.dialects.dialect import Ask, Desk, Incoming, Outgoing, Route, status_of
from saccade.dialects.hub import only_model
from saccade.dialects.yolo_ask import Picture, YoloAsk, ask, no_picture, words_of
from saccade.dialects.yolo_refusals import retry_headers, told
from saccade.errors import BadInput

FILES: Final = ("image", *(name for name in arguments.FILES if name != "image"))
"""This API's own name for the picture goes before the later ones."""

NO_PICTURE: Final = "An image file or URL must be submitted."


class YoloV1:
    """``normalize`` is what counts when a first-generation call does not say; ``response`` which generation answers
    calls that could be any; ``clamp`` moves numbers into their range instead of refusing them. ``default`` is the model
    of calls that name none."""

    name = "yolo_v1"
    routes: tuple[Route, ...] = (
        Route(("POST",), "/v1/predict/{model:path}"),
        Route(("POST",), "/v1/predict"),
        Route(("POST",), "/v1/auth", "describe"),
        Route(("GET",), "/v1/models/{model:path}", "describe"),
        Route(("GET",), "/v1/models", "describe"),
    )

    def __init__(
        self, *, normalize: bool = False, response: Response = "l1", clamp: bool = False, default: str | None = None
    ) -> None:
        legacy = Face(own={"imgsz": "size", "conf": "confidence"}, decimals=None, topk=1, clamp=clamp)
        self._response: Response = response
        self._default = default
        self._faces: dict[Response, Face] = {
            "l1": msgspec.structs.replace(legacy, normalize=normalize),
            "l2": legacy,
            "hub": Face(topk=1, clamp=clamp),
            "platform": Face(topk=1, clamp=clamp),
        }

    def claims(self, incoming: Incoming) -> bool:
        """These paths are nobody else's."""
        return True

    def parse(self, incoming: Incoming, desk: Desk) -> Ask:
        """One call; the model stands in the path, or in a field ``model``, or is the only one."""
        words, picture = words_of(incoming, FILES)
        if picture is None:
            raise no_picture(NO_PICTURE, words)
        named = incoming.match.get("model") or arguments.text(words, "model") or self._default or only_model(desk)
        if not named:
            raise BadInput("No model is named. Call /v1/predict/MODEL_ID with a model's id or name.")
        shape = arguments.response(words) or self._generation(words, picture)
        card = references.find(named, desk)
        return ask(incoming, words, picture, self._faces[shape], shape, references.called(named, card), card, desk)

    def render(self, ask: Ask, answers: Sequence[Answer]) -> Outgoing:
        """``success, message, data``, or the later envelope."""
        return yolo_answers.render(cast(YoloAsk, ask), answers)

    def render_stream(self, ask: Ask, answers: AsyncIterator[Answer]) -> AsyncIterator[bytes]:
        """An entry per frame."""
        return yolo_answers.render_stream(cast(YoloAsk, ask), answers)

    def refuse(self, error: errors.Error, incoming: Incoming) -> Outgoing:
        """``success`` false and the reason."""
        body = {"success": False, "message": told(error), "data": {}}
        return Outgoing(status_of(error), msgspec.json.encode(body), headers=retry_headers(error, iso=False))

    def describe(self, incoming: Incoming, desk: Desk) -> Outgoing:
        """What the HUB SDK asks before it predicts: whether its key is good, and what a model is."""
        if incoming.path == "/v1/auth":
            # Whoever has no valid key was refused before this.
            return _fine({})
        if "model" not in incoming.match:
            return _fine(_page(desk.cards(), dict(incoming.query)))
        named = incoming.match["model"]
        try:
            return _fine(_described(references.find(named, desk), references.model_name(named)))
        except errors.UnknownModel as error:
            return self.refuse(error, incoming)

    def _generation(self, words: Words, picture: Picture) -> Response:
        later = words.has("imgsz", "conf") and not words.has("image", "size", "confidence") and picture.part != "image"
        return "hub" if picture.part == "file" or later else self._response


def _page(cards: Sequence[Card], query: Mapping[str, str]) -> dict[str, object]:
    """The models behind ``last_doc_id``, ``limit`` of them or all, and where the next page begins if there is one.

    Raises:
        BadOptions: the limit is none.
    """
    behind = [card for card in cards if card.name > query.get("last_doc_id", "")]
    limit = inputs.integer("limit", query["limit"], low=1) if query.get("limit") else len(behind)
    shown = behind[:limit]
    return {
        "results": [_described(card, card.name) for card in shown],
        "total": len(cards),
        "lastRecordId": shown[-1].name if len(behind) > limit else None,
    }


def _described(card: Card, named: str) -> dict[str, object]:
    """A model as the SDK expects it: it moves the training settings away and reads the rest as it stands."""
    size = card.input_hw or (640, 640)
    return {
        "id": named,
        "meta": {"name": card.name},
        "status": "trained",
        "task": card.task,
        "config": {},
        "batch_size": "1",
        "epochs": "0",
        "imgsz": str(max(size)),
        "patience": "0",
        "device": "",
        "cache": "",
        "licence": card.licence,
    }


def _fine(data: object) -> Outgoing:
    return Outgoing(body=msgspec.json.encode({"success": True, "message": "", "data": data}))


DIALECT = YoloV1()
