"""``saccade add``: take a model file or folder into saccade's own store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saccade.cli.house import Function, Place, library, progress, settings
from saccade.errors import BadOptions

if TYPE_CHECKING:
    from saccade.card import Card

PICKLE = ".pt"
"""How the file of an Ultralytics checkpoint ends."""


def checkpoint_options(function: Function) -> Function:
    """``--ultralytics`` and ``--install-ultralytics``: who exports a .pt checkpoint."""
    function = click.option(
        "--install-ultralytics",
        is_flag=True,
        help="For a .pt checkpoint: first install ultralytics (AGPL-3.0, with PyTorch) in an environment of its own.",
    )(function)
    return click.option(
        "--ultralytics",
        type=Place(exists=True, dir_okay=False),
        help="For a .pt checkpoint: the Python of an environment that has ultralytics, which exports it.",
    )(function)


@click.command(name="add")
@click.argument("name")
@click.argument("path", type=Place(exists=True))
@click.option("--home", type=Place(file_okay=False), help="Where saccade keeps models and caches.")
@checkpoint_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def COMMAND(
    name: str, path: str, home: str | None, ultralytics: str | None, install_ultralytics: bool, as_json: bool
) -> None:
    """Add the model at PATH (an exported file, a Hugging Face folder, or an Ultralytics .pt checkpoint) under NAME.

    A checkpoint is never opened by saccade: the program yolo exports it, as a process of its own, in an environment
    that --ultralytics names or --install-ultralytics makes.
    """
    if Path(path).suffix.lower() == PICKLE:
        card = checkpoint(name, Path(path), home, ultralytics, install_ultralytics)
    else:
        card = library(settings(home=home)).add(name, Path(path))
    if as_json:
        click.echo(
            json.dumps({"name": card.name, "task": card.task, "family": card.family, "size_bytes": card.size_bytes})
        )
    else:
        click.echo(
            f"{card.name} is added: {card.task}, family {card.family}.\n"
            f"Try: saccade predict photo.jpg --model {card.name}"
        )
        if card.runtime == "torch":
            click.echo("Its first use makes a graph of it, once: this takes minutes, and needs saccade[transformers].")


def checkpoint(name: str, path: Path, home: str | None, interpreter: str | None, install: bool) -> Card:
    """Exports a checkpoint and adds the graph."""
    from saccade.convert.checkpoints import add_checkpoint
    from saccade.stores.ultralytics import Exporter

    if install and interpreter:
        raise BadOptions("--ultralytics names an environment, --install-ultralytics makes one: give one of the two.")
    given = settings(home=home)
    exporter, shelf = Exporter(Path(given.home), Path(interpreter) if interpreter else None), library(given)
    shelf.check_free(name)
    with progress() as report:
        if install:
            exporter.install(report)
        return add_checkpoint(shelf, exporter, name, path, report)
