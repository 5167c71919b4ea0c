"""The models of this machine, from the settings; apart from the server, so that commands start at once."""

from __future__ import annotations

import os
from pathlib import Path

from saccade.convert import Converter
from saccade.library import Library
from saccade.server.settings import Settings
from saccade.stores.hub import Hub
from saccade.stores.packages import Index, Packages
from saccade.stores.store import Store


def open_library(settings: Settings) -> Library:
    """The models of the home and of the folders, and the sources that more can be fetched from."""
    home = Path(settings.home)
    models = home / "models"
    hub = Hub(models, os.environ.get("HF_TOKEN"), os.environ.get("HF_ENDPOINT"))
    sources: list[Store] = [Packages(models, Index.from_pip(os.environ)), hub]
    folders = [Path(folder).expanduser() for folder in settings.models]
    return Library(home, folders, sources, Converter(home, settings.converter_python or None))
