"""What callers write when they mean a model: never a path, never an address that anybody fetches.

Understood are registered names, bare ids, official names with or without ``.pt`` or ``.onnx``, addresses of model pages
(``https://hub.ultralytics.com/models/ID?tab=deploy``, ``https://huggingface.co/owner/name/tree/main``),
``ul://owner/project/model``, ``hf://owner/name`` and HUB's ``APIKEY_MODELID``.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from saccade.card import Card
from saccade.dialects.dialect import Desk
from saccade.dialects.inputs import described
from saccade.errors import UnknownModel

SUFFIXES = (".pt", ".onnx")
_PART = r"[^\W_][\w .@()\[\]+,=&'-]{0,127}"
NAME = re.compile(f"{_PART}(?:/{_PART}){{0,2}}")
"""Whatever a file in a folder of models is likely to be called, as ``best (1)``; nothing that leads out of a folder."""


SCHEME = re.compile(r"^(ul|hf|https?):/(?!/)", re.IGNORECASE)
"""In the path of a request, the two slashes of an address have become one."""

KEYED = re.compile(r"[0-9a-f]{42}_")
"""HUB's ``APIKEY_MODELID``: the key is no part of the name, and is shown to nobody."""

LONGEST = 4096
"""Of a text that may mean a model, in characters: an address may have much behind the name. Nothing longer is looked
into, for nothing else is done while a key is looked for in it."""


def find(text: str, desk: Desk) -> Card:
    """The Card of the model that this text means.

    Raises:
        UnknownModel: the text is no model's name, or nobody knows the name.
    """
    name = model_name(text)
    for candidate in candidates(name):
        with contextlib.suppress(UnknownModel):
            return desk.card(candidate)
    # The plain name is the one that a store may know how to fetch, so its error is the one to report.
    return desk.card(plain(name))


def model_name(text: str) -> str:
    """The name or id inside an address, a ``ul://`` reference or a plain name; shown to callers without risk.

    Raises:
        UnknownModel: the text can be no model's name.
    """
    if len(text) > LONGEST:
        raise UnknownModel(
            f"The model is given as a text of {len(text)} characters, which is no model's name. Send a name or an id."
        )
    written = SCHEME.sub(r"\1://", KEYED.sub("", text.strip().strip("\"'"), count=1))
    scheme, separator, rest = written.partition("://")
    if not separator:
        name = written.split("?")[0].split("#")[0].strip("/") if not written.startswith(("/", "~")) else ""
    elif scheme.lower() in ("ul", "hf"):
        name = rest.split("?")[0].split("#")[0].strip("/")
    else:
        name = _from_page(written) if scheme.lower() in ("http", "https") else ""
    name = unicodedata.normalize("NFC", name)  # macOS writes files' names with their accents apart
    if ".." in name or not NAME.fullmatch(_letters(name)):
        shown = described(written.partition("?")[0])  # there may be a key behind it
        raise UnknownModel(
            f"The model is given as {shown}, which is no model's name. Send a model's name or id, or the "
            "address of a model page such as https://hub.ultralytics.com/models/ID."
        )
    return name


def _letters(name: str) -> str:
    """The name without the marks that many scripts set beside their letters, as Hindi its vowels."""
    return "".join(sign for sign in name if not unicodedata.category(sign).startswith("M"))


def called(text: str, card: Card) -> str:
    """What an answer calls its model: what the caller called it, unless that is another, as after a replacement.

    Raises:
        UnknownModel: the text can be no model's name.
    """
    name = model_name(text)
    names = {known.lower() for known in (card.name, *card.aliases)}
    return name if any(candidate.lower() in names for candidate in candidates(name)) else card.name


def plain(name: str) -> str:
    """The name without a checkpoint's suffix."""
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)


def candidates(name: str) -> Iterator[str]:
    """The names to look for, each once: as written, without suffix, in lower case, without owner and project."""
    seen = set()
    for shortened in (name, *_shortened(name)):
        for candidate in (shortened, plain(shortened), plain(shortened).lower()):
            if candidate and candidate not in seen:
                seen.add(candidate)
                yield candidate


def _shortened(name: str) -> Iterator[str]:
    """``owner/project/model`` also means ``project/model`` and ``model``: here, names are unique without an owner."""
    parts = name.split("/")
    if len(parts) == 3:
        yield "/".join(parts[1:])
        yield parts[2]


def _from_page(address: str) -> str:
    try:
        path = unquote(urlsplit(address).path).strip("/")
    except ValueError:
        return ""
    parts = path.split("/")
    if len(parts) == 4 and parts[2] == "tree":  # a revision on the Hugging Face Hub
        return "/".join(parts[:2]) + ("" if parts[3] == "main" else f"@{parts[3]}")
    return parts[1] if parts[0] == "models" and len(parts) == 2 else path
