"""From a request in the words of an Ultralytics API to calls: the picture, the arguments, the model, the wishes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from saccade import media
from saccade.call import Call, Clip, Options
from saccade.card import Card
from saccade.dialects import arguments, inputs
from saccade.dialects.accepted import accepted, takes, wants_picture
from saccade.dialects.arguments import ADDRESSES, FILES, LISTS, Arguments, Face, Response, Words
from saccade.dialects.dialect import Ask, Desk, Incoming
from saccade.dialects.inputs import Value
from saccade.errors import BadInput, BadOptions, UnknownFormat, WrongTask
from saccade.results import MaskForm

LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
EVENTS = "text/event-stream"
SEMANTIC = ("semantic", "yolo_maps")
"""Families that give every pixel a class, when the task is "segment"."""
PICTURES = frozenset((*FILES, *ADDRESSES))


class Picture(msgspec.Struct, frozen=True):
    """What to look at: bytes, or an address that the server may fetch; ``part`` is the name under which it came, and
    ``unseen`` those of the pictures that came beside it."""

    data: bytes = b""
    url: str | None = None
    part: str = ""
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class YoloAsk(Ask):
    """What the answer needs to know of the request.

    ``named`` is the model as the caller named it; ``ignored`` are arguments that mean nothing here, and pictures that
    are not looked at; ``alive_s`` is the server's age in seconds when the request came, which was at ``began`` on the
    ``perf_counter`` clock.
    """

    shape: Response
    arguments: Arguments
    named: str
    task: str
    labels: Mapping[int, str]
    ignored: tuple[str, ...]
    began: float
    alive_s: float


def words_of(incoming: Incoming, files: Sequence[str] = FILES) -> tuple[Words, Picture | None]:
    """Every named value of a request, and the picture if there is one: under the first of the names in ``files``.

    Raises:
        BadInput: the body cannot be read, or its files have unknown names.
        UnknownFormat: the body is of a kind that this API does not take.
    """
    query = inputs.gathered(inputs.paired(*pair, images=PICTURES) for pair in incoming.query)
    query |= _members(query)
    words = Words(query=query)
    if not incoming.body:  # whatever it is said to be
        return words, _written(words, files)
    if (sent := _in_json(incoming.body)) is not None:
        words = Words(query=query, body=sent)
        return words, _written(words, files)
    if inputs.is_multipart(incoming.headers):
        form = inputs.multipart(incoming.headers, incoming.body).with_arguments(arguments.WORDS)
        words = Words(form=_fields(form.texts), query=query)
        return words, _in_form(form, words, files)
    kind = incoming.headers.get("content-type", "").split(";")[0].strip().lower()
    if media.kind(incoming.body) is not None:
        # Some tools send a photo under the content type of a form: the bytes decide.
        return words, Picture(incoming.body)
    if kind and inputs.MULTIPART_START.match(incoming.body):
        raise BadInput(
            f"The body is a multipart form, but its Content-Type is {inputs.quoted(kind)}. Leave the Content-Type "
            "header out: the HTTP library adds the right one, together with the boundary."
        )
    if kind == "application/x-www-form-urlencoded":
        words = Words(form=_fields(inputs.urlencoded(incoming.body, PICTURES)), query=query)
    elif kind == "application/json" or kind.endswith("+json"):
        inputs.json_object(incoming.body)  # It is none, or it was read above: says what is wrong with it.
    elif not kind.startswith(("image/", "video/")) and kind not in ("", "application/octet-stream"):
        raise UnknownFormat(
            f"The body's Content-Type is {inputs.quoted(kind)}. Send multipart/form-data with a file, a form, JSON, "
            "or the image itself."
        )
    else:
        return words, Picture(incoming.body)
    return words, _written(words, files)


def no_picture(text: str, words: Words) -> BadInput:
    """The refusal of a request without a picture: ``text``, and the names under which it may have one unnoticed."""
    names = ", ".join(f"'{name[:40]}'" for name in words.unknown())
    return BadInput(f"{text} Not understood: {names}." if names else text)


def ask(
    incoming: Incoming, words: Words, picture: Picture, face: Face, shape: Response, named: str, card: Card, desk: Desk
) -> YoloAsk:
    """The call, with every option checked and the face's defaults filled in.

    ``shape`` is that of the answer when the call asks for none.

    Raises:
        BadOptions: an argument is wrong, or two do not go together.
        WrongTask: the model answers in things for which that shape has no words.
    """
    began = time.perf_counter()
    wanted = arguments.read(words, face)
    shape = wanted.response or shape
    clip = _clip(picture, wanted)
    weights = accepted(incoming.headers.get("accept", ""))
    annotate = wanted.annotated or wants_picture(weights)
    if card.task == "depth" and (shape != "platform" or wanted.export):
        raise WrongTask(
            "This model answers with a depth map, for which only the Platform's answers have words: ask it at "
            "/predict, without `response` and `format`."
        )
    if annotate and clip and picture.url is None:
        raise BadOptions(
            "An annotated picture is made of an image, not of a video or GIF. Leave out annotated=true and the header "
            "Accept: image/jpeg."
        )
    call = Call(
        model=card.name,
        media=picture.data,
        media_url=picture.url,
        options=_options(wanted, face, card, annotate or (shape == "platform" and wanted.export is None)),
        clip=clip,
        annotate=annotate,
    )
    events = takes(weights, EVENTS)
    return YoloAsk(
        calls=(call,),
        streamed=clip is not None and not wanted.export and (events or takes(weights, *LINES)),
        stream_type=EVENTS if events else LINES[0],
        shape=shape,
        arguments=wanted,
        named=named,
        task=task_of(card),
        labels=card.labels,
        ignored=words.unknown(picture.unseen),
        began=began,
        alive_s=desk.uptime_s(),
    )


def task_of(card: Card) -> str:
    """The model's task in the words of the Platform."""
    if is_semantic(card):
        return "semantic"
    return "classify" if card.task == "zero-shot-classify" else card.task


def is_semantic(card: Card) -> bool:
    """Whether the model names every pixel instead of finding objects."""
    metadata, config = card.config.get("metadata"), card.config.get("config")
    if isinstance(metadata, dict) and metadata.get("task") == "semantic":
        return True
    if card.task == "segment" and card.family in SEMANTIC:
        return True
    names = config.get("architectures") if isinstance(config, dict) else None
    return isinstance(names, list) and any("SemanticSegmentation" in str(name) for name in names)


def _options(wanted: Arguments, face: Face, card: Card, exact: bool) -> Options:
    """``exact``: semantic maps are needed with their holes, which outlines do not have."""
    if card.task == "zero-shot-classify" and wanted.candidate_labels is None:
        raise BadOptions("This model needs to be told what to look for: send candidate_labels=cat,dog.")
    labels = card.task in ("classify", "zero-shot-classify")
    form: MaskForm = "rle" if exact and is_semantic(card) else "polygon"
    return Options(
        conf=None if labels else wanted.conf,
        iou=None if labels else wanted.iou,
        imgsz=wanted.imgsz or (face.imgsz if card.dynamic and not labels else None),
        max_det=wanted.max_det,
        classes=wanted.classes,
        agnostic_nms=wanted.agnostic_nms,
        retina_masks=wanted.retina_masks,
        top_k=wanted.topk if labels else None,
        candidate_labels=wanted.candidate_labels,
        mask_form=form,
    )


def _clip(picture: Picture, wanted: Arguments) -> Clip | None:
    """GIFs are videos here, other animations are pictures; what an address holds is known once it is fetched."""
    is_clip = picture.url is not None or picture.data[:4] == b"GIF8" or media.kind(picture.data) == "video"
    return Clip(stride=wanted.vid_stride, track=wanted.track) if is_clip else None


def _in_json(body: bytes) -> dict[str, Value] | None:
    """The JSON object that a body is, whatever kind of body it is said to be."""
    if not inputs.OBJECT_START.match(body):
        return None
    try:
        return inputs.json_object(body)
    except BadInput:
        return None


def _in_form(form: inputs.Form, words: Words, files: Sequence[str]) -> Picture | None:
    """The first file that is not empty, else what came as text."""
    sent = [(name, data) for name in files if (data := form.file(name, f"{name}[]")) is not None]
    for name, data in sent:
        if data:
            unseen = tuple(file.name for file in form.files if file.data and file.data is not data)
            return Picture(data, part=name, unseen=unseen)
    if form.files and not sent:
        found = inputs.quoted(form.files[0].name)
        raise BadInput(
            f"The form has a file under the name {found}; the image or video must be called 'file' or 'image'."
        )
    written = _written(words, files)
    if written is None and sent:
        raise BadInput(f"The file '{sent[0][0]}' is empty (0 bytes). Send the image or video itself.")
    return written


def _written(words: Words, files: Sequence[str]) -> Picture | None:
    """A picture that came as text: an address, a data: URI or base64."""
    found = words.find((*files, *ADDRESSES))
    if found is None:
        return None
    name, value = found
    if inputs.are_numbers(value.get("data") if isinstance(value, dict) else value):
        raise BadInput(inputs.NUMBERS)
    unseen: tuple[str, ...] = ()
    if isinstance(value, list):
        unseen = (name,) if len(value) > 1 else ()
        value = value[0] if value else None
    value = arguments.unquoted(value)
    if not isinstance(value, str | bytes):
        raise BadInput(f"'{name}' must be an address, a data: URI or base64, but it is {inputs.described(value)}.")
    url = inputs.image_url(value)
    data = b"" if url else inputs.image_string(value)
    return Picture(data, url, name, unseen)


def _fields(pairs: Iterable[tuple[str, str]]) -> dict[str, Value]:
    """The fields of a form by name: of each the last, of lists all members in one text."""
    values = inputs.gathered(pairs)
    return {**{name: found[-1] for name, found in values.items()}, **_joined(values)}


def _members(values: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The lists among the arguments, gathered from all values of their names."""
    found = {name: [*values.get(name, ()), *values.get(f"{name}[]", ())] for name in LISTS}
    return {name: members for name, members in found.items() if members}


def _joined(values: Mapping[str, Sequence[str]]) -> dict[str, Value]:
    """The same, with one text for each list."""
    return {name: ",".join(members) for name, members in _members(values).items()}
