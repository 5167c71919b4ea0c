"""The Hugging Face Inference API for vision, as both generations of its servers spoke it.

A program that calls ``https://api-inference.huggingface.co/models/{id}`` or
``https://router.huggingface.co/hf-inference/models/{id}`` works here when the host is changed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, cast

import msgspec

from saccade import __version__, errors
from saccade.call import Answer, Call
from saccade.card import Card, Task
from saccade.dialects import inputs
from saccade.dialects.dialect import Ask, Desk, Incoming, ModelState, Outgoing, Route
from saccade.dialects.huggingface_answer import rows_of
from saccade.dialects.huggingface_refusal import header_text, refusal
from saccade.dialects.huggingface_request import Content, Shape, content_of, ignored, misplaced, options_of
from saccade.dialects.inputs import Value

WORDS: Mapping[Task, tuple[str, ...]] = {
    "classify": ("image-classification",),
    "detect": ("object-detection",),
    "segment": ("image-segmentation",),
    "pose": ("object-detection", "keypoint-detection"),
    "obb": ("object-detection",),
    "depth": ("depth-estimation",),
    "zero-shot-classify": ("zero-shot-image-classification",),
}
"""Each task in the words of the Hub, the model page's own word first."""

ROUTERS = ("/hf-inference", "/api/inference-proxy/hf-inference")
"""Where the second generation has the paths of the first; the rest of it is for chat and other providers."""

PREFIXES = tuple(tuple(router.split("/")[1:]) for router in ROUTERS)
ROOTS = frozenset({"", "predict", "invocations"})
"""Paths that name no model; other APIs know them too."""

PAGES = ("/health", "/info")
"""What can be read under any address of a model; the address itself takes images only."""

STATES: Mapping[ModelState, str] = {"warm": "Loaded", "loading": "Loadable", "cold": "Loadable", "failed": "error"}

MAX_ID = 256


Page: TypeAlias = Literal["", "health", "info", "status", "framework"]


class Place(NamedTuple):
    """What a path says: the model (or ""), the task that it forces (or ""), and what else is asked of the model."""

    model: str
    task: str = ""
    page: Page = ""


@dataclass(frozen=True, kw_only=True)
class HuggingFaceAsk(Ask):
    """What :meth:`HuggingFace.render` needs: how to wrap the answers, where they were computed, what to warn of."""

    shape: Shape = "one"
    device: str = "cpu"
    warning: str = ""


class HuggingFace:
    """The dialect."""

    name = "huggingface"
    routes: tuple[Route, ...] = (
        Route(("POST",), "/models/{path:path}"),
        Route(("POST",), "/pipeline/{path:path}"),
        *(Route(("POST",), f"{router}/{kind}/{{path:path}}") for router in ROUTERS for kind in ("models", "pipeline")),
        Route(("POST",), "/"),
        Route(("POST",), "/predict"),
        Route(("POST",), "/invocations"),
        *(
            Route(("GET",), f"{router}/{kind}/{{path:path}}", "describe", endings)
            for router in ("", *ROUTERS)
            for kind, endings in (("models", PAGES), ("pipeline", PAGES), ("status", ()), ("framework", ()))
        ),
    )

    def claims(self, incoming: Incoming) -> bool:
        """On the shared paths: everything but the forms and key headers of the Ultralytics APIs."""
        if incoming.path.strip("/") not in ROOTS:
            return True
        if inputs.is_multipart(incoming.headers):
            return inputs.has_part(incoming.body, "inputs")
        return "x-api-key" not in incoming.headers

    def parse(self, incoming: Incoming, desk: Desk) -> HuggingFaceAsk:
        """One call per picture of the request.

        Raises:
            UnknownModel, WrongTask, BadInput, BadOptions: in this order.
            StillLoading: the model would have to be fetched, and the caller wants nothing loaded.
        """
        place = place_of(incoming.path)
        content = None if place.model else _content(incoming)
        try:
            card = _card(place, _named(incoming, content), desk)
        except errors.UnknownModel as missing:
            if missing.offered:
                content = content or _content(incoming)
                missing.waits = _switch(incoming, content, "wait_for_model", False)
                if not _may_load(incoming, content):
                    raise errors.StillLoading(missing.message) from missing
            raise
        content = content or content_of(incoming)
        try:
            options = options_of(card.task, place.model or card.name, content.parameters)
        except errors.BadOptions as error:
            if content.flaw:  # what is missing stands in what could not be read
                raise errors.BadInput(content.flaw) from error
            raise
        calls = tuple(
            Call(
                model=card.name,
                media=picture.data,
                media_url=picture.url,
                options=options,
                use_cache=_switch(incoming, content, "use_cache", True),
                wait_for_model=_switch(incoming, content, "wait_for_model", False),
                load_model=_may_load(incoming, content),
            )
            for picture in content.pictures
        )
        return HuggingFaceAsk(
            calls=calls, shape=content.shape, device=desk.device(), warning=_warning(card.task, content)
        )

    def render(self, ask: Ask, answers: Sequence[Answer]) -> Outgoing:
        """The answer with the compute headers of the first generation."""
        ask = cast(HuggingFaceAsk, ask)
        found = [rows_of(answer.result) for answer in answers]
        body = found[0] if ask.shape == "one" else found if ask.shape == "list" else {"predictions": found}
        headers = _compute_headers(answers, ask.device)
        if ask.warning:
            headers.append(("x-hf-warning", header_text(ask.warning)))
        return Outgoing(body=msgspec.json.encode(body), headers=tuple(headers))

    async def render_stream(self, ask: Ask, answers: AsyncIterator[Answer]) -> AsyncIterator[bytes]:
        """This API has no streams; one line of JSON per answer."""
        async for answer in answers:
            yield msgspec.json.encode(rows_of(answer.result)) + b"\n"

    def refuse(self, error: errors.Error, incoming: Incoming) -> Outgoing:
        """The error as ``{"error": "…"}``."""
        place = place_of(incoming.path, reading=incoming.method in ("GET", "HEAD"))
        about_body = isinstance(error, errors.BadInput | errors.StillLoading)
        in_body = isinstance(error, errors.UnknownModel) and not place.model
        content = _content(incoming) if about_body or in_body else None
        try:
            named = place.model or _named(incoming, content)
        except errors.BadOptions:
            named = ""
        if isinstance(error, errors.BadInput) and content and content.flaw and content.flaw not in error.message:
            error = errors.BadInput(f"{error.message}. {content.flaw}")
        return refusal(
            error,
            incoming,
            named,
            about_picture=content is not None and all(picture.url is None for picture in content.pictures),
            may_load=_may_load(incoming, content),
        )

    def describe(self, incoming: Incoming, desk: Desk) -> Outgoing:
        """Status, health and facts of models.

        Raises:
            UnknownModel, WrongTask: the path names none that is here, or another task than its own.
        """
        place = place_of(incoming.path, reading=True)
        if place.page == "framework":
            return _json(_deployed(place.model, desk))
        if place.page == "status":
            return _json(_status(_state(place, desk), desk))
        if place.page == "":
            refused = self.refuse(
                errors.CallError(f"{incoming.method} is not allowed here. POST an image to {incoming.path}"), incoming
            )
            return Outgoing(status=405, body=refused.body, headers=(*refused.headers, ("allow", "POST")))
        if place.page == "info":
            return _json(_info(_card(place, "", desk), desk))
        failed = _state(place, desk) == "failed"
        return _json({"error": "The model failed to load."} if failed else {"status": "ok"}, 503 if failed else 200)


def place_of(path: str, *, reading: bool = False) -> Place:
    """What a path names; ``reading`` for GET, where ``/health`` and ``/info`` under a model are its pages.

    Prefixes of the router, doubled slashes and a slash at the end change nothing.
    """
    parts = [part for part in path.split("/") if part]
    for prefix in PREFIXES:
        if tuple(parts[: len(prefix)]) == prefix:
            parts = parts[len(prefix) :]
    if not parts:
        return Place("")
    kind, rest = parts[0], parts[1:]
    if kind == "status":
        return Place(_id(rest), page="status")
    if kind == "framework":
        return Place(_id(rest), page="framework")
    page: Page = ""
    if reading and len(rest) > 1 and rest[-1] in ("health", "info"):
        page = "health" if rest.pop() == "health" else "info"
    if kind == "pipeline":
        return Place(_id(rest[1:]), rest[0] if rest else "", page)
    if kind != "models":
        return Place("")
    if "pipeline" in rest[1:]:
        at = rest.index("pipeline", 1)
        return Place(_id(rest[:at]), "/".join(rest[at + 1 :]), page)
    if not reading and len(rest) > 1 and rest[-1] in ("predict", "invocations"):
        return Place(_id(rest[:-1]))
    return Place(_id(rest), page=page)


def _id(parts: Sequence[str]) -> str:
    return "/".join(parts)[:MAX_ID]


def _content(incoming: Incoming) -> Content | None:
    """What the body holds, if it can be read."""
    try:
        return content_of(incoming)
    except errors.CallError:
        return None


def _named(incoming: Incoming, content: Content | None) -> str:
    """The model that a request names beside its path, in the body or the query string; "" when it names none.

    Raises:
        BadOptions: it is no text.
    """
    given: Value = None if content is None else content.switches.get("model")
    named = dict(incoming.query).get("model", "") if given in (None, "") else given
    if not isinstance(named, str):
        raise errors.BadOptions(f"`model` must be text, but {inputs.described(named)} was given.")
    return named.strip()[:MAX_ID]


def _card(place: Place, named: str, desk: Desk) -> Card:
    """The Card of the model that is meant.

    Raises:
        UnknownModel: nobody knows it, or none is meant.
        WrongTask: the path forces a task that is not the model's.
    """
    ref = place.model or named or desk.default_model()
    if not ref:
        raise errors.UnknownModel("This path names no model, and the server has no default: POST to /models/NAME.")
    card = desk.card(ref)
    if place.task and place.task not in WORDS[card.task]:
        raise errors.WrongTask(
            f"Model '{place.model or card.name}' doesn't support task '{place.task}'. "
            f"Supported tasks: '{', '.join(WORDS[card.task])}', got: '{place.task}'"
        )
    return card


def _switch(incoming: Incoming, content: Content | None, name: str, default: bool) -> bool:
    """A switch from its header, else from ``options``, the body's top level or the query string."""
    given: Value = None if content is None else content.switches.get(name)
    return inputs.boolean(incoming.headers.get("x-" + name.replace("_", "-")), inputs.boolean(given, default))


def _may_load(incoming: Incoming, content: Content | None) -> bool:
    unwanted = False if content is None else inputs.boolean(content.switches.get("dont_load_model"), False)
    return inputs.boolean(incoming.headers.get("x-load-model"), not unwanted)


def _warning(task: Task, content: Content) -> str:
    """What the caller said or sent in vain, "" if nothing."""
    told = []
    if unknown := ignored(task, content.parameters):
        told.append(f"ignored, unknown to {WORDS[task][0]}: {', '.join(unknown[:8])}")
    if strayed := misplaced(task, content):
        told.append(f"ignored, because not in `parameters`: {', '.join(strayed)}")
    if content.unseen:
        told.append(f"only the first of {content.unseen + 1} files was looked at; a list in `inputs` may hold several")
    return f"parameters; {'; '.join(told)}" if told else ""


def _compute_headers(answers: Sequence[Answer], device: str) -> list[tuple[str, str]]:
    """A cached answer has no compute time: that is how the widgets know it."""
    fresh = [answer.timings for answer in answers if not answer.cached]
    if not fresh:
        return [("x-compute-type", "cache"), ("x-compute-images", str(len(answers)))]
    inference_ms = sum(times.inference_ms for times in fresh)
    queue_ms = sum(times.queue_ms for times in fresh)
    busy_ms = inference_ms + sum(times.decode_ms + times.preprocess_ms + times.postprocess_ms for times in fresh)
    return [
        ("x-compute-type", device),
        ("x-compute-time", f"{busy_ms / 1e3:.3f}"),
        ("x-compute-images", str(len(answers))),
        ("x-total-time", f"{busy_ms + queue_ms:.0f}"),
        ("x-queue-time", f"{queue_ms:.0f}"),
        ("x-inference-time", f"{inference_ms:.0f}"),
    ]


def _json(value: object, status: int = 200) -> Outgoing:
    return Outgoing(status=status, body=msgspec.json.encode(value))


def _state(place: Place, desk: Desk) -> ModelState:
    """Whether the model is in memory; one that the first call would fetch is cold."""
    try:
        return desk.state(_card(place, "", desk).name)
    except errors.UnknownModel as missing:
        if missing.offered:
            return "cold"
        raise


def _status(state: ModelState, desk: Desk) -> dict[str, object]:
    return {
        "loaded": state == "warm",
        "state": STATES[state],
        "compute_type": desk.device(),
        "framework": "transformers",
    }


def _info(card: Card, desk: Desk) -> dict[str, object]:
    return {
        "model_id": card.name,
        "model_sha": card.revision or None,
        "model_pipeline_tag": WORDS[card.task][0],
        "model_device_type": desk.device(),
        "state": STATES[desk.state(card.name)],
        "labels": len(card.labels),
        "license": card.licence,
        "version": __version__,
    }


def _deployed(framework: str, desk: Desk) -> list[dict[str, object]]:
    """All models under the one framework that clients ask for; none under the others."""
    if framework not in ("transformers", "all", "saccade"):
        return []
    return [
        {
            "model_id": card.name,
            "task": WORDS[card.task][0],
            "framework": "transformers",
            "compute_type": desk.device(),
            "state": STATES[desk.state(card.name)],
        }
        for card in desk.cards()
    ]


DIALECT = HuggingFace()
