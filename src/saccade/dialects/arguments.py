"""The arguments of the Ultralytics APIs: every name that a generation used, one canonical meaning.

An argument may come in the form, in the query string or in a JSON body, in this order of precedence; the face's own
name for it wins over its aliases. Ranges are those of the documents and are the same on all faces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, TypeAlias, TypeVar, get_args

import msgspec

from saccade.dialects import inputs
from saccade.dialects.inputs import Value
from saccade.errors import BadOptions

Response: TypeAlias = Literal["l1", "l2", "hub", "platform"]
Export: TypeAlias = Literal["coco", "yolo", "geojson", "csv"]

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "imgsz": ("imgsz", "size", "image_size", "img_size"),
    "conf": ("conf", "confidence", "conf_thres", "threshold"),
    "iou": ("iou", "iou_thres", "iou_threshold", "overlap"),
    "normalize": ("normalize", "normalized"),
    "topk": ("topk", "top_k"),
}
"""Canonical name → every name under which it is accepted; all other arguments have one name."""

FILES: Final = ("file", "image", "img", "images")
"""Names of the file part, and of a JSON or form field that holds a picture as text."""

ADDRESSES: Final = ("source", "url", "image_url")
"""Names of the field that holds a picture's address (or, like the others, the picture itself as base64)."""

RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "imgsz": (32, 1280),
    "conf": (0.01, 1.0),
    "iou": (0.0, 0.95),
    "decimals": (0, 10),
    "vid_stride": (1, 100_000),
    "max_det": (1, 10_000),
    "topk": (1, 10_000),
    "bits": (8, 16),
}
BITS: Final = (8, 12, 16)
EXPORTS: Final[Mapping[str, Export]] = {name: name for name in get_args(Export)}
RESPONSES: Final[Mapping[str, Response]] = {"l1": "l1", "l2": "l2", "l3": "hub", "hub": "hub", "platform": "platform"}
FORMATS: Final[Mapping[str, object]] = {"json": "json", **EXPORTS, **RESPONSES}
PLAIN: Final = (
    *("decimals", "vid_stride", "bits", "classes", "max_det", "agnostic_nms", "retina_masks", "zero_hidden_keypoints"),
    *("annotated", "track", "format", "response", "candidate_labels", "model", "half"),
)
"""Arguments of one name; ``half`` is known, and means nothing here: the server chooses the precision."""

LISTS: Final = ("classes", "candidate_labels")
"""Arguments that may come once per member, also as ``classes[]`` or ``classes[0]``: so do JavaScript and PHP."""

WORDS: Final = frozenset(
    (*ADDRESSES, *PLAIN, *(f"{name}[]" for name in LISTS), *(name for names in ALIASES.values() for name in names))
)
"""Names whose values are text, in whatever kind of part they come."""

KNOWN: Final = WORDS | frozenset(FILES)
MAX_IGNORED: Final = 8
PLAIN_NAME: Final = re.compile(r"[\w.\[\]{}-]{1,64}", re.ASCII)
"""A name that can stand in a header, such as ``conf-thres`` or ``parameters[conf]``."""
MAX_CLASS: Final = 999_999
MAX_MEMBERS: Final = 10_000


class Face(msgspec.Struct, frozen=True, kw_only=True):
    """One generation's own words and defaults.

    ``own`` maps canonical names to the names that its documents use. ``clamp`` moves a number that is out of range to
    the nearest allowed one instead of refusing it. ``decimals`` None writes unrounded floats; ``imgsz`` None takes the
    model's own size.
    """

    own: Mapping[str, str] = {}
    imgsz: int | None = 640
    conf: float = 0.25
    iou: float = 0.45
    normalize: bool = False
    decimals: int | None = 5
    topk: int = 5
    clamp: bool = False


class Arguments(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks for, with the face's defaults filled in; None means that nothing was said.

    ``imgsz`` stays None when the request names none: whether the face's default applies depends on the model.
    """

    conf: float
    iou: float
    imgsz: int | None
    normalize: bool
    decimals: int | None
    vid_stride: int
    bits: int
    classes: tuple[int, ...] | None
    max_det: int | None
    agnostic_nms: bool
    retina_masks: bool
    zero_hidden_keypoints: bool
    topk: int
    annotated: bool
    track: bool
    export: Export | None
    response: Response | None
    candidate_labels: tuple[str, ...] | None


class Words(msgspec.Struct, frozen=True):
    """Every named value of a request, by where it came: form fields, the query (repeatable), a JSON object."""

    form: Mapping[str, Value] = {}
    query: Mapping[str, Sequence[str]] = {}
    body: Mapping[str, Value] = {}

    def find(self, names: Sequence[str]) -> tuple[str, Value] | None:
        """The first of these names that holds something, with its value; empty text, an empty list and null do not."""
        for name in names:
            for value in (self.form.get(name), next(iter(self.query.get(name, ())), None), self.body.get(name)):
                if value not in (None, "", b"", []):
                    return name, value
        return None

    def has(self, *names: str) -> bool:
        """Whether any of these names is there at all."""
        return any(name in source for name in names for source in (self.form, self.query, self.body))

    def unknown(self, unseen: Iterable[str] = ()) -> tuple[str, ...]:
        """Names that mean nothing here, and those of pictures that nobody looks at, as far as a header can hold them: a
        slip such as ``confidance`` shows there."""
        names = {name for source in (self.form, self.query, self.body) for name in source} - KNOWN | {*unseen}
        return tuple(sorted(filter(PLAIN_NAME.fullmatch, names)))[:MAX_IGNORED]

    def members(self, name: str) -> list[Value]:
        """The members of a list that is written as JSON, with commas, or as a repeated query argument.

        Raises:
            BadOptions: not a list, or one that is absurdly long.
        """
        repeated = self.query.get(name, ())
        found = self.find((name,))
        if found is None:
            return []
        values: Sequence[Value] = repeated if name not in self.form and repeated else [found[1]]
        members = [member for value in values for member in _split(name, value) if member != ""]
        if len(members) > MAX_MEMBERS:
            raise BadOptions(f"`{name}` holds {len(members)} members; at most {MAX_MEMBERS} are allowed.")
        return members


def read(words: Words, face: Face) -> Arguments:
    """The arguments of a request, each checked.

    Raises:
        BadOptions: a value has the wrong type or is out of range; the message names the allowed range.
    """
    found = _Reader(words, face)
    bits = found.integer("bits", 8)
    if bits not in BITS:
        raise BadOptions(f"`bits` must be 8, 12 or 16, but {bits} was given.")
    return Arguments(
        conf=found.number("conf", face.conf),
        iou=found.number("iou", face.iou),
        imgsz=found.integer("imgsz", None),
        normalize=found.boolean("normalize", face.normalize),
        decimals=found.integer("decimals", face.decimals),
        vid_stride=found.integer("vid_stride", 1),
        bits=bits,
        classes=_classes(words),
        max_det=found.integer("max_det", None),
        agnostic_nms=found.boolean("agnostic_nms", False),
        retina_masks=found.boolean("retina_masks", False),
        zero_hidden_keypoints=found.boolean("zero_hidden_keypoints", False),
        topk=found.integer("topk", face.topk),
        annotated=found.boolean("annotated", False),
        track=found.boolean("track", False),
        export=EXPORTS.get(_choice(words, "format", FORMATS) or ""),
        response=response(words),
        candidate_labels=_texts(words, "candidate_labels"),
    )


def response(words: Words) -> Response | None:
    """The generation in whose words the answer is wanted: ``response=l2``, or ``format=l2``.

    Raises:
        BadOptions: there is no such generation.
    """
    name = _choice(words, "response", RESPONSES) or _choice(words, "format", FORMATS)
    return RESPONSES.get(name or "")


Whole = TypeVar("Whole", int, int | None)


class _Reader:
    """Looks up canonical names in the face's order of preference and checks what it finds."""

    def __init__(self, words: Words, face: Face) -> None:
        self._words = words
        self._face = face

    def number(self, canonical: str, default: float) -> float:
        found = self._find(canonical)
        if found is None:
            return default
        low, high = RANGES[canonical]
        if self._face.clamp:
            return min(max(inputs.number(*found), low), high)
        return inputs.number(*found, low=low, high=high)

    def integer(self, canonical: str, default: Whole) -> int | Whole:
        found = self._find(canonical)
        if found is None:
            return default
        low, high = RANGES[canonical]
        if self._face.clamp:
            return int(min(max(inputs.integer(*found), low), high))
        return inputs.integer(*found, low=low, high=high)

    def boolean(self, canonical: str, default: bool) -> bool:
        found = self._find(canonical)
        if found is None:
            return default
        name, value = found
        yes, no = inputs.boolean(value, True), inputs.boolean(value, False)
        if yes is not no:
            raise BadOptions(f"`{name}` must be true or false, but {inputs.described(value)} was given.")
        return yes

    def _find(self, canonical: str) -> tuple[str, Value] | None:
        names = ALIASES.get(canonical, (canonical,))
        own = self._face.own.get(canonical, canonical)
        found = self._words.find((own, *(name for name in names if name != own)))
        return found and (found[0], unquoted(found[1]))


def text(words: Words, name: str) -> str | None:
    """An argument that must be text.

    Raises:
        BadOptions: it is something else.
    """
    found = words.find((name,))
    if found is None:
        return None
    value = unquoted(found[1])
    if not isinstance(value, str):
        raise BadOptions(f"`{name}` must be text, but {inputs.described(value)} was given.")
    return value


def unquoted(value: Value) -> Value:
    """Text without blanks around it, and without the quotes that a shell leaves there (``-F 'conf="0.25"'``)."""
    value = inputs.decoded(value)
    if not isinstance(value, str):
        return value
    stripped = value.strip()
    if len(stripped) >= 2 and stripped[0] == stripped[-1] and stripped[0] in "\"'":
        return stripped[1:-1].strip()
    return stripped


def _choice(words: Words, name: str, choices: Mapping[str, object]) -> str | None:
    found = text(words, name)
    if found is None:
        return None
    if found.lower() not in choices:
        raise BadOptions(f"`{name}` must be one of {', '.join(choices)}, but {inputs.described(found)} was given.")
    return found.lower()


def _classes(words: Words) -> tuple[int, ...] | None:
    """Class ids from ``0,2``, ``[0, 2]``, ``0`` or a repeated query argument."""
    ids = tuple(inputs.integer("classes", value, low=0, high=MAX_CLASS) for value in words.members("classes"))
    return ids or None


def _texts(words: Words, name: str) -> tuple[str, ...] | None:
    texts = words.members(name)
    for value in texts:
        if not isinstance(value, str):
            raise BadOptions(f"`{name}` must hold texts, but it holds {inputs.described(value)}.")
    return tuple(str(value) for value in texts) or None


def _split(name: str, value: Value) -> list[Value]:
    value = unquoted(value)
    if isinstance(value, list):
        return value
    if not isinstance(value, str):
        return [value]
    inputs.check_values(value)
    if not value.startswith("["):
        return [part.strip() for part in value.split(",")]
    try:
        members = msgspec.json.decode(value, type=list)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = inputs.described(value)
        raise BadOptions(f"`{name}` must be a list such as [0, 2] or 0,2, but {found} was given.") from None
    return list(members)
