"""A server for Hub checkpoints that are converted first: ``python -m tests.clients.checkpoint_house '{…}'``.

Takes the server's settings, and under "torch" the Python that has torch and transformers; graphs are kept in
``.cache`` beside the sources, because converting takes up to half a minute each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
from tests.clients.environments import ROOT

from saccade.card import Card
from saccade.convert import Converter
from saccade.engine.engine import Engine
from saccade.engine.rules import Rules
from saccade.errors import UnknownModel
from saccade.stores.local import Local


class Converted:
    """The models of some folders; a checkpoint's Card is that of its graph."""

    def __init__(self, folders: list[Path], torch: str) -> None:
        self.store = Local(folders)
        self.converter = Converter(ROOT / ".cache" / "converted", python=torch)

    def card(self, ref: str, *, fetch: bool = False) -> Card:
        found = self.store.find(ref)
        if found is None:
            raise UnknownModel(f"There is no model '{ref}'.")
        return self.converter.find(found) or found

    def ready(self, card: Card) -> Card:
        """The Card of its graph, made now if need be."""
        return self.converter.convert(card)

    def cards(self) -> list[Card]:
        return [self.card(card.name) for card in self.store.cards()]


def main() -> None:
    from saccade.server import run
    from saccade.server.settings import Settings

    given = json.loads(sys.argv[1])
    torch = given.pop("torch")
    settings = msgspec.convert(given, Settings)
    library = Converted([Path(folder) for folder in settings.models], torch)
    rules = Rules(precision="f32", isolate=False, cache_bytes=0, check_s=0)
    run.serve(settings, library=library, engine=Engine(library, rules))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
