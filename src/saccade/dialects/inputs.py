"""What arrives in a request, made into plain values: multipart forms, JSON, base64, booleans and numbers.

Every dialect reads its requests with these. They are judged by the bytes alone, know no API's field names, open no
file, follow no address, and raise only BadInput (the body), TooLarge (its values) and BadOptions (an option), whatever
the bytes are.
"""

from __future__ import annotations

import binascii
import logging
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import compress, islice
from typing import TYPE_CHECKING, AnyStr, TypeAlias

import msgspec
import numpy as np
import pybase64
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from saccade import media
from saccade.errors import BadInput, BadOptions, TooLarge
from saccade.results import ByteArray

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 2048
"""Parts of one form; a thousand labels, each in a part of its own, is the most that anybody needs."""

DECODED_AT_ONCE = 64 * 2**10
"""So many bytes are looked for percent codes at a time: what is made of them stays in the processor's cache."""

MAX_PAIRS = 2048
"""Pairs of one URL-encoded form."""

MAX_PART_HEADERS = 16
MAX_PART_HEADER_BYTES = 8192
MAX_ARGUMENT_BYTES = 64 * 2**10
"""A part with a file's name is an argument up to this length; a thousand candidate labels need half of it."""

MAX_FIELD_BYTES = 128 * 2**20
"""Text parts may hold images and videos in base64, so their cap is that of a large body."""

LONG_STRING = 16 * 2**10
"""Length in bytes from which a JSON string is left undecoded, because it can only be an image."""

MOST_VALUES = 100_000
"""Values of one JSON body, or of a list that is written as text. Three bytes become an object of 64, and nothing else
is done while they are made: 128 MB, which are 130 kB when packed, would be 4 GB and 17 seconds."""

MOST_WHOLE = 2**31 - 1
"""What a whole number without an upper bound is cut to: more means "all there are", and not everything can hold it."""

MAX_SIGNIFICANT = 64
"""Digits of a number written as text; longer ones are refused unread."""

logging.getLogger("python_multipart").setLevel(logging.ERROR)
"""A garbled form is the caller's affair; the library would write a line per request into the server's log."""

NUMBER = re.compile(r"\[[0-9]{1,6}\]\Z")
"""A member's place in a list, behind the list's name."""

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})

Value: TypeAlias = bool | int | float | str | bytes | list["Value"] | dict[str, "Value"] | None
"""A JSON value; ``bytes`` stand for a long string that was left undecoded (see :func:`json_value`)."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a form: the field's ``name`` and the bytes. The file's own name is never looked at."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart body: files, and text fields with their names, in the order in which they came."""

    files: tuple[Upload, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()

    @property
    def fields(self) -> Mapping[str, str]:
        """The text fields by name; the last of a name wins."""
        return dict(self.texts)

    def file(self, *names: str) -> bytes | None:
        """The first file under any of these field names, or None; see :func:`unnumbered`."""
        return next((upload.data for name in names for upload in self.files if unnumbered(upload.name) == name), None)

    def with_arguments(self, names: Collection[str]) -> Form:
        """The same form, with the files of these names that hold a short text as fields.

        ``requests`` and others give a file's name to every part of ``files=``, also to ``{"conf": "0.5"}``.
        """
        found = [unnumbered(upload.name) in names and is_argument(upload.data) for upload in self.files]
        if not any(found):
            return self
        rest = tuple(upload for upload, is_text in zip(self.files, found, strict=True) if not is_text)
        texts = ((upload.name, upload.data.decode()) for upload in compress(self.files, found))
        return Form(rest, (*texts, *self.texts))


def gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """All values of each name, in the order in which they came; see :func:`unnumbered`."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(unnumbered(name), []).append(value)
    return values


def unnumbered(name: str) -> str:
    """``classes[]`` for ``classes[0]``, as PHP's ``http_build_query`` and JavaScript's ``qs`` number members."""
    return NUMBER.sub("[]", name) if name.endswith("]") else name


def is_argument(data: bytes) -> bool:
    """Whether a part can be the value of an argument: a short text, and no picture."""
    if len(data) > MAX_ARGUMENT_BYTES:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return media.kind(data) is None


def has_part(body: bytes, name: str) -> bool:
    """Whether a multipart form seems to have a part of this name, around which .NET puts no quotes."""
    word = name.encode()
    return any(written % word in body for written in (b'name="%b"', b" name=%b;", b" name=%b\r\n"))


def is_multipart(headers: Mapping[str, str]) -> bool:
    """Whether the Content-Type header says multipart/form-data; ``headers`` has lower-case names."""
    return headers.get("content-type", "").lower().startswith("multipart/form-data")


MULTIPART_START = re.compile(rb"\s{0,4}--[^\r\n]{1,80}\r?\ncontent-", re.IGNORECASE)
"""How a multipart form begins that has no preamble."""


def multipart(headers: Mapping[str, str], body: bytes) -> Form:
    """The form that a multipart/form-data body holds.

    A part is a file when it has a filename or is not UTF-8 text; all other parts are text fields.

    Raises:
        BadInput: no boundary in the header, a boundary that is not in the body, a cut off or oversized form.
    """
    kind, options = parse_options_header(headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise BadInput(
            "The Content-Type header says multipart/form-data but names no boundary, so the form cannot be read. "
            "Leave the Content-Type header out: the HTTP library adds it together with the boundary."
        )
    reader = _parsed(_without_preamble(body, boundary), boundary)
    if reader is None or not reader.ended:
        reader = _parsed(_rewritten(body, boundary), boundary)
    if reader is None:
        raise BadInput(
            "The multipart form cannot be read: its parts do not match the boundary in the Content-Type header, "
            "or a part's header is damaged. Leave the Content-Type header to the HTTP library."
        )
    if not reader.ended:
        raise BadInput("The multipart form is cut off: its closing boundary is missing. Send the whole body.")
    return reader.form()


def _parsed(body: bytes, boundary: bytes) -> _Reader | None:
    """What the strict parser met, up to the body's end; None when it met something that is no form."""
    reader = _Reader()
    try:
        parser = MultipartParser(
            boundary,
            reader.callbacks(),
            max_header_count=MAX_PART_HEADERS,
            max_header_size=MAX_PART_HEADER_BYTES,
        )
        parser.write(body)
        parser.finalize()
    except FormParserError:
        return None
    return reader


def _without_preamble(body: bytes, boundary: bytes) -> bytes:
    """From the first boundary on: what stands before it says nothing (RFC 2046, section 5.1.1)."""
    delimiter = b"--%b\r\n" % boundary
    at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    return body[at:] if at > 1 else body


_HEAD_END = re.compile(rb"\r?\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_LINE_END = re.compile(rb"\r?\n")


def _rewritten(body: bytes, boundary: bytes) -> bytes:
    """The same form as the strict parser wants it; the body as it is when it holds no boundary.

    Python's ``email`` and programs written by hand end lines with LF alone, fold a part's headers, or put blanks behind
    a boundary (RFC 2046, section 5.1.1). The end of the first boundary's line tells how the others end.
    """
    delimiter = b"--" + boundary
    if delimiter not in body:
        return body
    newline = b""
    pieces: list[bytes] = []
    start = -1
    lines = re.finditer(re.escape(delimiter) + rb"(--)?[ \t]*+(?=(\r?\n)|\Z)", body)
    for line in islice(lines, 4 * MAX_PARTS):  # few of them are no boundaries, unless somebody means harm
        ends = newline or line[2] or b"\n"
        if line.start() and not body.endswith(ends, 0, line.start()):
            continue
        newline = ends
        if start >= 0:
            part = body[start : line.start()].removesuffix(newline)
            blank = _HEAD_END.search(part, 0, MAX_PART_HEADERS * MAX_PART_HEADER_BYTES)
            head, data = (part[: blank.start()], part[blank.end() :]) if blank else (b"", part)
            head = _LINE_END.sub(b"\r\n", _FOLD.sub(b" ", head).strip(b"\r\n"))
            pieces += [b"--%b\r\n" % boundary, head + b"\r\n" if head else b"", b"\r\n", data, b"\r\n"]
        start = line.end()
        if line[1]:
            pieces.append(b"--%b--\r\n" % boundary)
            break
        if len(pieces) > 5 * MAX_PARTS:
            break
    return b"".join(pieces)


def urlencoded(body: bytes, images: Collection[str]) -> tuple[tuple[str, str], ...]:
    """The names and values of a URL-encoded form; those in ``images`` may be base64.

    Raises:
        BadInput: it is not UTF-8 text, or has more than :data:`MAX_PAIRS` pairs.
    """
    try:
        body.decode()
        pairs = body.split(b"&", MAX_PAIRS)
        if len(pairs) > MAX_PAIRS:
            raise ValueError
    except ValueError as error:
        raise BadInput(
            "The form in the body cannot be read: it is not URL-encoded UTF-8 text. A file goes into a multipart form: "
            "with curl, -F file=@photo.jpg and not -d @photo.jpg."
        ) from error
    words = (
        tuple(percent_decoded(word.replace(b"+", b" ")).decode("utf-8", "replace") for word in pair.split(b"=", 1))
        for pair in pairs
        if pair
    )
    return tuple(paired(*word, images=images) for word in words)


def paired(name: str, value: str = "", *, images: Collection[str]) -> tuple[str, str]:
    """A pair of a form or an address: base64 that was not percent-encoded arrives with blanks instead of plus signs."""
    return name, value.replace(" ", "+") if name in images and not image_url(value) else value


def percent_decoded(text: bytes) -> bytes:
    """The bytes that ``%41`` and the like stand for; what is no such code stays. 64 MB of codes take half a second."""
    if b"%" not in text:
        return text
    pieces: list[bytes] = []
    start = 0
    while start < len(text):
        end = min(start + DECODED_AT_ONCE, len(text))
        cut = text.rfind(b"%", end - 2, end) if end < len(text) else -1  # no code is cut in two
        end = cut if cut > 0 else end
        pieces.append(_percent_decoded(np.frombuffer(text, np.uint8, end - start, start)))
        start = end
    return b"".join(pieces)


def _percent_decoded(letters: ByteArray) -> bytes:
    at = np.flatnonzero(letters[:-2] == ord("%"))
    high, low = _HEX[letters[at + 1]], _HEX[letters[at + 2]]
    codes = (high >= 0) & (low >= 0)  # a percent sign is no digit, so no two codes overlap
    at, found, kept = at[codes], letters.copy(), np.ones(len(letters), bool)
    found[at] = high[codes] * 16 + low[codes]
    kept[at + 1] = kept[at + 2] = False
    return found[kept].tobytes()


def json_value(body: bytes) -> Value:
    """The JSON value of a body in strict UTF-8; a leading byte order mark is allowed.

    When the body begins as ``{"key": "<long string>"`` or ``{"key": {"key": "<long string>"``, that string stays raw
    ``bytes`` (so a base64 image is never copied into text); :func:`image_string` takes both.

    Raises:
        BadInput: with the parser's own words.
        TooLarge: see :func:`check_values`.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    if len(body) >= LONG_STRING:
        return _json_with_long_string(body)
    return _json(body)


def decoded(value: Value) -> Value:
    """A value that is no image: what :func:`json_value` left as ``bytes`` is text.

    Raises:
        BadOptions: it is not UTF-8.
    """
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadOptions(f"{described(value)[:1].upper()}{described(value)[1:]} is not UTF-8.") from error


def json_object(body: bytes) -> dict[str, Value]:
    """The JSON object of a body, see :func:`json_value`.

    Raises:
        BadInput: not JSON, or another JSON value than an object.
        TooLarge: see :func:`check_values`.
    """
    value = json_value(body)
    if not isinstance(value, dict):
        raise BadInput(f'The JSON body must be an object like {{"key": value}}, but it is {described(value)}.')
    return value


_HEX = np.full(256, -1, np.int16)
_HEX[list(b"0123456789")] = range(10)
_HEX[list(b"abcdef")] = _HEX[list(b"ABCDEF")] = range(10, 16)

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
OBJECT_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{")


def json_members(body: bytes) -> Mapping[str, bytes] | None:
    """The names in the JSON object that a body is, each with the first sign of its value; None when it is none.

    For a look at what is meant before the body is read: no value is built, so a megabyte takes 0.2 ms. What holds more
    than :data:`MOST_VALUES` is none, either.
    """
    if not OBJECT_START.match(body) or _is_crowded(body):
        return None
    try:
        members = _members.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return {name: bytes(memoryview(value)[:1]) for name, value in members.items()}


@contextmanager
def numbered(index: int, count: int) -> Iterator[None]:
    """Within it, an error about the image at ``index`` says which of ``count`` images of the request it means."""
    try:
        yield
    except (BadInput, TooLarge) as error:
        if count == 1:
            raise
        raise type(error)(f"image {index + 1} of {count}: {error.message}") from error


def image_url(text: str | bytes) -> str | None:
    """The http or https address that a string is, or None when it is none."""
    head = text[:16].lstrip()
    head = head.decode("latin-1") if isinstance(head, bytes) else head
    if not head.lower().startswith(("http://", "https://")):
        return None
    try:
        return (text.decode() if isinstance(text, bytes) else text).strip()
    except UnicodeDecodeError:
        return None


def image_string(text: str | bytes) -> bytes:
    """The bytes that a base64 string or a ``data:`` URI of any media type holds.

    Both alphabets, missing padding, spaces and line breaks are accepted. A string is never taken for a file's name.

    Raises:
        BadInput: empty, or not base64.
    """
    try:
        raw = (text.encode("ascii") if isinstance(text, str) else bytes(text)).strip()
    except UnicodeEncodeError as error:
        raise BadInput(NOT_BASE64) from error
    if raw[:5].lower() == b"data:":
        raw = raw.partition(b",")[2]
        if b"%" in raw:
            raw = percent_decoded(raw)
    if not raw:
        raise BadInput("The image is an empty string. Send the image's bytes, or those bytes in base64.")
    try:
        return pybase64.b64decode(raw, validate=True)
    except (binascii.Error, ValueError):
        return _tolerant_base64(raw)


NOT_BASE64 = (
    "The image string is neither valid base64 nor an address that begins with http:// or https://. Send the image's "
    "bytes in base64 (a data: URI is fine too); names of files are never opened: curl sends a file when an @ stands "
    "before its name."
)


PRINTED_BYTES = (
    "The image string begins with b', as Python prints bytes. Send the base64 alone: base64.b64encode(data).decode()"
)


PRINTED_OBJECT = (
    "What arrived is '[object …]', as JavaScript writes an object that is sent as text. Send a File or a Blob, or the "
    "text of JSON.stringify(object)."
)


PRINTED = {b"b'": PRINTED_BYTES, b'b"': PRINTED_BYTES, b"[object": PRINTED_OBJECT}
"""What to tell of values that a language printed in its own way, by how they begin."""


NUMBERS = (
    "An image must be a base64 string, but a list of numbers was given. Send the image's bytes as the body, or encode "
    "them: base64.b64encode(data).decode() in Python, buffer.toString('base64') in JavaScript."
)


def are_numbers(value: Value) -> bool:
    """Whether bytes became a list on their way into JSON, as a Buffer of JavaScript and ``list(data)`` do."""
    return isinstance(value, list) and value != [] and all(type(one) is int for one in value[:16])


def boolean(value: object, default: bool | None = None, *, name: str = "value") -> bool:
    """A switch in any usual spelling: true/false, 1/0, yes/no, on/off, in any case; anything else is the default.

    Raises:
        BadOptions: it is none of these and there is no default; ``name`` is the option's.
    """
    if isinstance(value, bool):
        return value
    word = value[:16].decode("latin-1") if isinstance(value, bytes) else value
    word = f"{word:g}" if isinstance(word, float) else str(word) if isinstance(word, int) and word in (0, 1) else word
    if isinstance(word, str) and (word := word.strip().lower()) in TRUE | FALSE:
        return word in TRUE
    if default is None:
        raise BadOptions(f"`{name}` must be true or false, but {described(value)} was given.")
    return default


def number(name: str, value: object, *, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number within ``low`` and ``high`` (both allowed); numeric text counts.

    Raises:
        BadOptions: naming the option, what was found and what is expected.
    """
    found = _finite(value)
    if found is None or not low <= found <= high:
        raise BadOptions(f"`{name}` must be a number{_range(low, high)}, but {described(value)} was given.")
    return float(found)


def integer(name: str, value: object, *, low: float = -math.inf, high: float = math.inf) -> int:
    """A whole number within ``low`` and ``high`` (both allowed); "640" and 640.0 count; see :data:`MOST_WHOLE`.

    Raises:
        BadOptions: naming the option, what was found and what is expected.
    """
    found = _finite(value)
    if found is None or found != int(found) or not low <= found <= high:
        raise BadOptions(f"`{name}` must be a whole number{_range(low, high)}, but {described(value)} was given.")
    return int(max(low if math.isfinite(low) else -MOST_WHOLE, min(found, high if math.isfinite(high) else MOST_WHOLE)))


def described(value: object) -> str:
    """A value in a few words for an error message, never longer than a line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | bytes):
        return f"the text {quoted(value)}"
    if isinstance(value, int | float):
        return repr(value) if isinstance(value, float) or abs(value) < 10**40 else "a huge number"
    return "a list" if isinstance(value, list | tuple) else "an object"


def quoted(value: str | bytes) -> str:
    """The beginning of a text between quotes, for an error message."""
    text = value[:41].decode("latin-1") if isinstance(value, bytes) else value[:41]
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    return f"'{text[:40]}{'…' if len(text) > 40 else ''}'"


def check_values(text: str | bytes) -> None:
    """Raises TooLarge: the JSON, or the list with commas, holds more than :data:`MOST_VALUES` values."""
    if _is_crowded(text):
        raise TooLarge(
            f"Payload too large: the request holds more than {MOST_VALUES} values. Send an image's bytes as the body, "
            "or in base64, never as a list of numbers."
        )


def _is_crowded(text: str | bytes) -> bool:
    """Whether so many values may be in it; base64 has hardly a sign that is looked for, and costs next to nothing."""
    if len(text) <= MOST_VALUES:
        return False
    found = _places(text, ",]}") if isinstance(text, str) else _places(text, (b",", b"]", b"}"))
    return next(islice(found, MOST_VALUES, None), None) is not None


def _places(text: AnyStr, signs: Iterable[AnyStr]) -> Iterator[int]:
    for sign in signs:
        at = text.find(sign)
        while at >= 0:
            yield at
            at = text.find(sign, at + 1)


def _json(body: bytes) -> Value:
    check_values(body)
    try:
        body.decode()  # msgspec reports bad UTF-8 only in the values that it builds
        value: Value = msgspec.json.decode(body)
    except UnicodeDecodeError as error:
        raise BadInput(f"The JSON body is not UTF-8 text (byte {error.start}). Encode it as UTF-8.") from error
    except RecursionError as error:
        raise BadInput("The JSON body is nested too deeply.") from error
    except (msgspec.MsgspecError, ValueError) as error:
        printed = body.lstrip().startswith(b"[object ")
        raise BadInput(PRINTED_OBJECT if printed else f"The body is not valid JSON: {error}") from error
    return value


_LONG_START = re.compile(rb'\s*\{\s*"([^"\\]{1,64})"\s*:\s*(?:\{\s*"([^"\\]{1,64})"\s*:\s*)?"')


def _json_with_long_string(body: bytes) -> Value:
    """As :func:`_json`, but the long string at the start is cut out first and put back as bytes."""
    start = _LONG_START.match(body)
    end = body.find(b'"', start.end()) if start else -1
    if start is None or end - start.end() < LONG_STRING or body.find(b"\\", start.end(), end) != -1:
        return _json(body)
    try:
        value = _json(body[: start.end()] + body[end:])
    except BadInput:
        return _json(body)  # it fails, too, and says at which byte of what was sent
    text = body[start.end() : end]
    try:
        holder = value
        keys = [key.decode() for key in start.groups() if key is not None]
        for key in keys[:-1]:
            holder = holder[key]  # type: ignore[index]
        if isinstance(holder, dict) and holder.get(keys[-1]) == "":
            holder[keys[-1]] = text
    except (KeyError, TypeError):  # a key that comes twice: the last one wins, as everywhere in JSON
        pass
    return value


_ALPHABET = bytes.maketrans(b"-_", b"+/")


def _tolerant_base64(raw: bytes) -> bytes:
    raw = raw.translate(_ALPHABET, b" \t\r\n\f\v").rstrip(b"=")
    try:
        return pybase64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        told = next((told for start, told in PRINTED.items() if raw.startswith(start)), NOT_BASE64)
        raise BadInput(told) from error


def _transferred(data: bytes, encoding: bytes) -> bytes:
    """A part's bytes as they were before they were encoded for the way; some say so and send plain bytes."""
    if encoding == b"base64":
        with suppress(BadInput):
            return _tolerant_base64(data)
    if encoding == b"quoted-printable" and data.isascii():
        return binascii.a2b_qp(data)
    return data


def _finite(value: object) -> int | float | None:
    if isinstance(value, bytes):
        value = value[: MAX_SIGNIFICANT + 1].decode("latin-1")
    if isinstance(value, str):
        if len(value) > MAX_SIGNIFICANT or "_" in value:
            return None
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def _range(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return ""
    if math.isinf(high):
        return f" of at least {_digits(low)}"
    return f" up to {_digits(high)}" if math.isinf(low) else f" from {_digits(low)} to {_digits(high)}"


def _digits(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


class _Reader:
    """Collects parts as the parser meets them; slices of the body are joined once, at the end of a part."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        self.files: list[Upload] = []
        self.ended = False
        self._count = 0
        self._name = self._value = b""
        self._disposition = b""
        self._transfer = b""
        self._chunks: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_header_begin": self._header,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_end": self._finish,
        }

    def form(self) -> Form:
        return Form(tuple(self.files), tuple(self.texts))

    def _begin(self) -> None:
        self._count += 1
        if self._count > MAX_PARTS:
            raise BadInput(f"The multipart form has more than {MAX_PARTS} parts.")
        self._disposition, self._transfer, self._chunks = b"", b"", []

    def _header(self) -> None:
        self._name = self._value = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        name = self._name.lower()
        if name == b"content-disposition":
            self._disposition = self._value
        elif name == b"content-transfer-encoding":
            self._transfer = self._value.strip().lower()

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])

    def _end(self) -> None:
        data = _transferred(b"".join(self._chunks), self._transfer)
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if not data and options.get(b"filename") == b"":
            return  # what browsers send for a field in which no file was chosen
        if b"filename" not in options:
            if len(data) > MAX_FIELD_BYTES:
                raise BadInput("A text field of the multipart form is too large. Send images as files.")
            try:
                self.texts.append((name, data.decode()))
            except UnicodeDecodeError:
                self.files.append(Upload(name, data))
            return
        self.files.append(Upload(name, data))

    def _finish(self) -> None:
        self.ended = True
