"""What a caller's Accept header asks for.

Many programs send a long list that they did not think about (Java's HttpURLConnection names image/jpeg in all of them),
so a drawn picture is made only for callers who take a picture and nothing that is usual.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

JSON: Final = "application/json"
PICTURE: Final = "image/jpeg"
ALL: Final = ("*/*", "*", "text/html", JSON)
"""Who takes one of these can read JSON, or says nothing about what is wanted."""


def accepted(header: str) -> Mapping[str, float]:
    """Each media type of an Accept header in lower case, with its weight: 0 (never) to 1."""
    weights: dict[str, float] = {}
    for entry in header.lower().split(","):
        kind, _, parameters = entry.partition(";")
        kind = kind.strip()
        if kind:
            weights[kind] = max(_weight(parameters), weights.get(kind, 0.0))
    return weights


def takes(weights: Mapping[str, float], *kinds: str) -> bool:
    """Whether one of these media types is named and not refused."""
    return any(weights.get(kind, 0.0) > 0 for kind in kinds)


def wants_picture(weights: Mapping[str, float]) -> bool:
    """Whether the caller takes a JPEG, and likes it more than JSON.

    A type says more than a range that holds it (RFC 9110, section 12.5.1): ``image/jpeg;q=0, image/*`` takes none.
    """
    picture = _weight_of(PICTURE, weights)
    return picture > 0 and not takes(weights, *ALL) and picture > _weight_of(JSON, weights)


def _weight_of(kind: str, weights: Mapping[str, float]) -> float:
    return weights.get(kind, weights.get(f"{kind.partition('/')[0]}/*", 0.0))


def _weight(parameters: str) -> float:
    """The weight among a type's parameters; 1 where it is left out or is none."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 1.0
            return weight if 0 <= weight <= 1 else 1.0
    return 1.0
