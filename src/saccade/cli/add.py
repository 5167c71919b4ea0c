"""``saccade add``: take a model file or folder into saccade's own store."""

from __future__ import annotations

import json
from pathlib import Path

import click

from saccade.cli.house import library, settings


@click.command(name="add")
@click.argument("name")
@click.argument("path", type=click.Path(exists=True))
@click.option("--home", type=click.Path(file_okay=False), help="Where saccade keeps models and caches.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def COMMAND(name: str, path: str, home: str | None, as_json: bool) -> None:
    """Add the model at PATH (an exported file, or a Hugging Face folder) under NAME."""
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
