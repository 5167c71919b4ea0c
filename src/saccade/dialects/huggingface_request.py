"""A Hugging Face request's body → pictures, parameters and switches, judged by its bytes and never by Content-Type.

Real clients send JSON as image/jpeg, photos as application/json or as a form, and nothing at all as anything.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from saccade import media
from saccade.call import Options
from saccade.card import Task
from saccade.dialects import inputs
from saccade.dialects.dialect import Incoming
from saccade.dialects.inputs import Value
from saccade.errors import BadInput, BadOptions

MAX_PICTURES = 64
"""Images of one request."""

MAX_CANDIDATES = 1000
"""Labels that a zero-shot request may bring along."""
LABEL_NAMES = frozenset({"candidate_labels", "candidateLabels"})
ONE_BY_ONE = {f"{name}[]": name for name in sorted(LABEL_NAMES)}
"""What JavaScript's and PHP's libraries make of the name of a list in an address or a form."""
LABELS = "a list of texts, or one text with commas between the labels"

FUNCTIONS = ("sigmoid", "softmax", "none")
SUBTASKS = ("panoptic", "instance", "semantic")

PARAMETERS: Mapping[Task, tuple[str, ...]] = {
    "classify": ("top_k", "function_to_apply"),
    "detect": ("threshold",),
    "pose": ("threshold",),
    "obb": ("threshold",),
    "segment": ("subtask", "threshold", "mask_threshold", "overlap_mask_area_threshold"),
    "depth": (),
    "zero-shot-classify": ("candidate_labels", "candidateLabels", "hypothesis_template"),
}
"""The parameters that each task knows; others are ignored with a warning."""

SILENT = frozenset({"timeout", "model", "use_cache", "wait_for_model", "dont_load_model", "use_gpu"})
"""Words that are no parameters of the task, but need no warning."""

WORDS = SILENT.union(*PARAMETERS.values(), ONE_BY_ONE)
"""Names whose values are text in a form, in whatever kind of part they come."""

JSON_START = re.compile(rb'(?:\xef\xbb\xbf)?\s*[{\["]')
"""After a byte order mark and blanks, a sign with which JSON begins and no image does."""

TGA_HEADER = 18
"""Bytes. TGA alone has no signature, but zeros in its header, which no JSON has."""

IMAGES = ("inputs", "image")
"""Parts of a form whose text is the image."""

PAIRS_START = re.compile(rb"(?:[\w.%\[\]-]{1,64}=[^&]*+&)*?(?:inputs|image)=[^=]")
"""How a URL-encoded form with an image begins, as ``requests.post(url, data={"inputs": …})`` sends it. No image begins
so, and in base64 nothing follows a ``=`` but another one."""
PAIRS_BEFORE = 256 * 2**10
"""So many bytes of other pairs may come before the image: a thousand labels, each with its name."""

NESTED = ("parameters", "options")
"""Parts of a form that hold JSON."""

NAMES = ("image", "inputs", "b64", "data", "url")
"""Keys under which an object has the image."""

Shape: TypeAlias = Literal["one", "list", "predictions"]


@dataclass(frozen=True, slots=True)
class Picture:
    """One image: its bytes, or the address where it lies."""

    data: bytes = b""
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What a body held. ``shape`` says how the answer is wrapped: bare, a list per image, or Vertex predictions.
    ``flaw`` tells what is wrong with a body that was taken for a picture although it begins as JSON does; ``unseen``
    how many more files came in a form."""

    pictures: tuple[Picture, ...]
    shape: Shape = "one"
    parameters: Mapping[str, Value] = field(default_factory=dict)
    switches: Mapping[str, Value] = field(default_factory=dict)
    flaw: str = ""
    unseen: int = 0


def content_of(incoming: Incoming) -> Content:
    """The pictures, parameters and switches of a request; the body's parameters win over the query string's,
    where an empty value says nothing.

    Raises:
        BadInput, BadOptions: whatever the bytes are, nothing else.
    """
    found = _content(incoming)
    query = _said(incoming.query)
    if not query:
        return found
    return replace(found, parameters={**query, **found.parameters}, switches={**query, **found.switches})


def _content(incoming: Incoming) -> Content:
    body = incoming.body
    if not body or (len(body) < 1024 and not body.strip()):
        raise BadInput("Body needs to provide a inputs key, received: ")
    if inputs.is_multipart(incoming.headers):
        try:
            return _from_form(inputs.multipart(incoming.headers, body).with_arguments(WORDS))
        except BadInput:
            if body.lstrip()[:2] == b"--":
                raise
    flaw = ""
    if JSON_START.match(body):
        try:
            value = inputs.json_value(body)
        except BadInput as error:
            if _says_json(incoming.headers) or error.message == inputs.PRINTED_OBJECT:
                raise
            flaw = "" if b"\0" in body[:TGA_HEADER] else error.message
        else:
            return _from_json(value, body)
    if PAIRS_START.match(body, 0, PAIRS_BEFORE):
        return _from_form(inputs.Form(texts=inputs.urlencoded(body, frozenset(IMAGES))))
    return Content((Picture(_raw(body)),), flaw=flaw)


def _says_json(headers: Mapping[str, str]) -> bool:
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


_TEXT = re.compile(rb"[\sA-Za-z0-9+/=_-]*\Z|\s*data:", re.IGNORECASE)


def _raw(body: bytes) -> bytes:
    """The body itself, or what it holds in base64 when that is an image (and the body, being text, is not)."""
    if not _TEXT.match(body[:256]) or media.kind(body) is not None:
        return body
    try:
        decoded = inputs.image_string(body)
    except BadInput:
        return body
    return decoded if media.kind(decoded) is not None else body


def _from_form(form: inputs.Form) -> Content:
    fields = {name: value for name, value in _said(form.texts).items() if name not in NESTED}
    text = next((text for name in IMAGES if (text := fields.pop(name, None))), None)
    switches = _nested(form, "options")
    parameters: dict[str, Value] = {**fields, **_nested(form, "parameters")}
    pictures = [upload.data for upload in form.files if upload.name not in NESTED]
    chosen = next((data for data in pictures if data), None)  # an empty one gives way to whatever else was sent
    if chosen is None and text is not None:
        picture = _picture(text)
    elif pictures:
        picture = Picture(chosen or b"")
    else:
        raise BadInput("The form holds no image: send it as a file, for example curl -F file=@photo.jpg")
    unseen = max(0, sum(map(bool, pictures)) - 1)
    return Content((picture,), "one", parameters, {**fields, **switches}, unseen=unseen)


def _said(pairs: Iterable[tuple[str, str]]) -> dict[str, Value]:
    """What a query string or a form says: the last of each name, but all labels, which may come one by one."""
    values = inputs.gathered((name, value) for name, value in pairs if value)
    return {
        ONE_BY_ONE.get(name, name): [*found]
        if name in ONE_BY_ONE or (name in LABEL_NAMES and len(found) > 1)
        else found[-1]
        for name, found in values.items()
    }


def _nested(form: inputs.Form, name: str) -> dict[str, Value]:
    """The JSON object in a part of a form, which may bear a file's name, too."""
    text = form.fields.get(name)
    data = form.file(name) if text is None else text.encode()
    if not data:
        return {}
    try:
        value = inputs.json_value(data)
    except BadInput as error:
        raise BadOptions(f"`{name}` must be a JSON object, but {inputs.described(data)} was given.") from error
    return _object(value, name)


def _from_json(value: Value, body: bytes) -> Content:
    if isinstance(value, str | bytes):
        return Content((_picture(value),))
    if isinstance(value, list):
        return Content(_pictures(value), "list")
    if not isinstance(value, dict):
        raise BadInput("The JSON body must be an object with the key `inputs`.")
    parameters = _object(value.get("parameters"), "parameters")
    switches = {**value, **_object(value.get("options"), "options")}
    if isinstance(instances := value.get("instances"), list):
        return Content(_pictures(instances), "predictions", parameters, switches)
    source = value.get("image") if value.get("image") is not None else value.get("inputs")
    if source is None:
        echo = "".join(sign if sign.isprintable() else " " for sign in body[:100].decode("utf-8", "replace"))
        raise BadInput(f"Body needs to provide a inputs key, received: {echo}")
    if isinstance(source, list):
        return Content(_pictures(source), "list", parameters, switches)
    if isinstance(source, dict):
        parameters = {**{key: source[key] for key in PARAMETERS["zero-shot-classify"] if key in source}, **parameters}
    return Content((_picture(source),), "one", parameters, switches)


def _object(value: Value, name: str) -> dict[str, Value]:
    if value in (None, []):  # PHP writes an object without members as a list
        return {}
    if not isinstance(value, dict):
        raise BadOptions(f"`{name}` must be an object, but {inputs.described(value)} was given.")
    return value


def _pictures(values: list[Value]) -> tuple[Picture, ...]:
    if not values:
        raise BadInput("The list of images is empty.")
    if inputs.are_numbers(values):
        raise BadInput(inputs.NUMBERS)
    if len(values) > MAX_PICTURES:
        raise BadInput(f"The request holds {len(values)} images; at most {MAX_PICTURES} are answered at once.")
    pictures = []
    for index, value in enumerate(values):
        with inputs.numbered(index, len(values)):
            pictures.append(_picture(value))
    return tuple(pictures)


def _picture(value: Value) -> Picture:
    if isinstance(value, dict):
        key = next((key for key in NAMES if key in value), None)
        if key is None:
            raise BadInput("An image must be a base64 string, but an object without the key `image` was given.")
        value = value[key]
    if inputs.are_numbers(value):
        raise BadInput(inputs.NUMBERS)
    if not isinstance(value, str | bytes):
        raise BadInput(f"An image must be a base64 string, but {inputs.described(value)} was given.")
    url = inputs.image_url(value)
    return Picture(inputs.image_string(value)) if url is None else Picture(url=url)


def options_of(task: Task, model: str, parameters: Mapping[str, Value]) -> Options:
    """The parameters of a task as options, with this API's defaults; null means the default.

    Raises:
        BadOptions: in the words of transformers' pipelines where they have some.
    """
    given = {name: inputs.decoded(value) for name, value in parameters.items() if value is not None}
    match task:
        case "classify":
            top_k = inputs.integer("top_k", given["top_k"], low=1) if "top_k" in given else 5
            return Options(top_k=top_k, activation=_function(given.get("function_to_apply")))
        case "detect" | "pose" | "obb":
            return Options(conf=_number(given, "threshold", 0.5))
        case "segment":
            return Options(
                conf=_number(given, "threshold", 0.9),
                subtask=_subtask(given.get("subtask"), model),
                mask_threshold=_number(given, "mask_threshold", 0.5),
                overlap_threshold=_number(given, "overlap_mask_area_threshold", 0.5),
                mask_form="png",
            )
        case "zero-shot-classify":
            return _zero_shot(given)
        case _:
            return Options()


def ignored(task: Task, parameters: Mapping[str, Value]) -> list[str]:
    """Names of parameters that the task does not know."""
    known = {*PARAMETERS[task], *SILENT}
    return [name for name in parameters if name not in known]


def misplaced(task: Task, content: Content) -> list[str]:
    """Names of the task's parameters that stand beside ``inputs`` or among the options, where they mean nothing."""
    return [name for name in PARAMETERS[task] if name in content.switches and name not in content.parameters]


def _number(given: Mapping[str, Value], name: str, default: float) -> float:
    return inputs.number(name, given[name]) if name in given else default


def _function(value: Value) -> str | None:
    if value is None:
        return None
    word = value.lower() if isinstance(value, str) else None
    if word == "default":
        return None
    if word not in FUNCTIONS:
        shown = value[:40] if isinstance(value, str) else inputs.described(value)
        raise BadOptions(f"{shown} is not a valid ClassificationFunction, please select one of {list(FUNCTIONS)}")
    return word


def _subtask(value: Value, model: str) -> str | None:
    if value is None or value == "":
        return None
    if value not in SUBTASKS:
        shown = value[:40] if isinstance(value, str) else inputs.described(value)
        raise BadOptions(f"Subtask {shown} is not supported for model {model}, please select one of {list(SUBTASKS)}")
    return str(value)


def _zero_shot(given: Mapping[str, Value]) -> Options:
    labels = given.get("candidate_labels", given.get("candidateLabels"))
    if labels is None:
        raise BadOptions(
            f"`candidate_labels` is missing: the model looks for what it is told. Send {LABELS}, in `parameters` or "
            "in the address."
        )
    if isinstance(labels, str) and labels.lstrip().startswith("["):
        with contextlib.suppress(BadInput):
            labels = inputs.json_value(labels.encode())
    if isinstance(labels, str):
        inputs.check_values(labels)
        labels = [label for label in map(str.strip, labels.split(",")) if label]
    names = [label for label in labels if isinstance(label, str)] if isinstance(labels, list) else []
    if not isinstance(labels, list) or not names or len(names) != len(labels):
        raise BadOptions(f"`candidate_labels` must be {LABELS}.")
    if not all(name.strip() for name in names):
        raise BadOptions("One of `candidate_labels` is empty.")
    if len(names) > MAX_CANDIDATES:
        raise BadOptions(f"`candidate_labels` has {len(names)} labels; at most {MAX_CANDIDATES} are allowed.")
    template = given.get("hypothesis_template")
    if isinstance(template, str):
        template = template.replace("{0}", "{}")  # the pipeline's own language has both
    if template is not None and not (isinstance(template, str) and "{}" in template):
        raise BadOptions("`hypothesis_template` must be a text with {} where the label goes.")
    return Options(candidate_labels=tuple(names), hypothesis_template=template)
