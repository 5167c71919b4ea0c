"""The families, found by name; a file here, or an entry point of the group ``saccade.families``, is enough."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from importlib.metadata import entry_points
from typing import cast

from saccade.errors import UnsupportedModel
from saccade.families.family import Family


def find(name: str) -> type[Family]:
    """The family class of this name.

    Raises:
        UnsupportedModel: no family has this name.
    """
    module = f"{__name__}.{name}"
    if name.isidentifier() and name != "family" and importlib.util.find_spec(module) is not None:
        return cast(type[Family], importlib.import_module(module).FAMILY)
    for point in entry_points(group="saccade.families", name=name):
        return cast(type[Family], point.load())
    raise UnsupportedModel(f"The model asks for the family '{name}', which this saccade does not have.")


def furnish() -> None:
    """Imports all families of this package, so that opening a model later does not have to."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
