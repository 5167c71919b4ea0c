"""The runtimes, found by name; a file here, or an entry point of the group ``saccade.runtimes``, is enough."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib.metadata import entry_points
from typing import cast

from saccade.errors import UnsupportedModel
from saccade.runtimes.session import Runtime

os.putenv("ORT_DISABLE_TELEMETRY", "1")
"""Since 1.29 ONNX Runtime reports to its maker what is opened and where, unless this stands in the environment when it
is loaded, by whatever library: torch and transformers can, too."""


def find(name: str) -> Runtime:
    """The runtime of this name.

    Raises:
        UnsupportedModel: no runtime has this name.
    """
    module = f"{__name__}.{name}"
    if name.isidentifier() and name != "session" and importlib.util.find_spec(module) is not None:
        return cast(Runtime, importlib.import_module(module).RUNTIME)
    for point in entry_points(group="saccade.runtimes", name=name):
        return cast(Runtime, point.load())
    raise UnsupportedModel(f"The model asks for the runtime '{name}', which this saccade does not have.")


def furnish(name: str) -> None:
    """Imports a runtime and, where it has a FURNISH, its library, so that opening a model later does not have to.

    Raises:
        UnsupportedModel: no runtime has this name.
        MissingExtra: its library is not installed.
    """
    find(name)
    getattr(sys.modules.get(f"{__name__}.{name}"), "FURNISH", lambda: None)()
