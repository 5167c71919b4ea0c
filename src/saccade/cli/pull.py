"""``saccade pull``: bring a model to this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saccade.cli.add import PICKLE, checkpoint, checkpoint_options
from saccade.cli.house import library, model_options, progress, settings
from saccade.errors import BadOptions

if TYPE_CHECKING:
    from saccade.library import Library


@click.command(name="pull")
@click.argument("ref")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@checkpoint_options
@model_options
def COMMAND(
    ref: str,
    as_json: bool,
    ultralytics: str | None,
    install_ultralytics: bool,
    folders: tuple[str, ...],
    home: str | None,
) -> None:
    """Fetch a model: one of the catalogue's by name, or a Hugging Face Hub id such as facebook/detr-resnet-50.

    A file that ends in .pt is an Ultralytics checkpoint: it is exported and added under its own name.
    """
    file = Path(ref)
    if file.suffix.lower() == PICKLE and file.is_file():
        card = checkpoint(file.stem, file, home, ultralytics, install_ultralytics)
    else:
        shelf = library(settings(home=home, models=folders or None))
        _check_meant(shelf, ref)
        with progress() as report:
            card = shelf.pull(ref, report)
    if as_json:
        click.echo(
            json.dumps({"name": card.name, "task": card.task, "licence": card.licence, "size_bytes": card.size_bytes})
        )
        return
    click.echo(f"{card.name} is here: {card.task}, {card.size_bytes / 1e6:.1f} MB, licence {card.licence}.")
    if "AGPL" in card.licence:
        click.secho(
            "AGPL-3.0: who lets others use this model over a network has duties; read its licence.", fg="yellow"
        )


def _check_meant(shelf: Library, ref: str) -> None:
    """Raises BadOptions: a checkpoint's path leads to no file. ``weights/best.pt`` is no id of the Hub."""
    if ref.lower().endswith(PICKLE) and "/" in ref and ":/" not in ref and shelf.here(ref) is None:
        raise BadOptions(
            f"There is no file '{ref}'. Give the path of a checkpoint that is there, or a name that 'saccade models' "
            "lists."
        )
