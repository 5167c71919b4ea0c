"""``saccade serve`` with simulated devices instead of models: ``python simulated_house.py '{"port": 0, ...}'``."""

from __future__ import annotations

import json
import sys
from typing import Any

from saccade.card import Card
from saccade.errors import UnknownModel
from saccade.server import settings
from saccade.server.run import serve


class Devices:
    """A library of devices that need so many milliseconds."""

    def __init__(self, **behaviours: dict[str, Any]) -> None:
        self._cards = {
            name: Card(
                name=name,
                task="detect",
                family="simulated",
                runtime="simulated",
                labels={0: name},
                revision=name,
                config={"simulated": behaviour},
            )
            for name, behaviour in behaviours.items()
        }

    def card(self, ref: str, *, fetch: bool = False) -> Card:
        if ref not in self._cards:
            raise UnknownModel(f"There is no model '{ref}'.")
        return self._cards[ref]

    def cards(self) -> list[Card]:
        return list(self._cards.values())


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    devices = given.pop("devices")
    serve(settings.load(given, {}), library=Devices(**devices))
