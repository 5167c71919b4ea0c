"""``saccade models``: what is here, and what can be fetched by name."""

from __future__ import annotations

import json
from typing import Any

import click

from saccade.cli import table
from saccade.cli.house import library, model_options, settings


@click.command(name="models")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
@model_options
def COMMAND(as_json: bool, folders: tuple[str, ...], home: str | None) -> None:
    """List the models that are here and those that can be fetched by name."""
    shelf = library(settings(home=home, models=folders or None))
    here = [_row(card, fetched=True) for card in shelf.cards()]
    names = {row["name"] for row in here}
    rows = here + [_row(entry, fetched=False) for entry in shelf.offers() if entry.name not in names]
    click.echo(json.dumps(rows, indent=1)) if as_json else _print(rows)
    for name, problem in shelf.problems().items():
        click.secho(f"{name} cannot be served: {problem.message}", err=True, fg="yellow")


def _row(thing: Any, fetched: bool) -> dict[str, Any]:
    return {
        "name": thing.name,
        "task": thing.task,
        "family": thing.family,
        "licence": thing.licence,
        "size_bytes": thing.size_bytes,
        "fetched": fetched,
        "source": thing.source if fetched else "catalogue",
        "aliases": list(thing.aliases),
    }


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.text import Text

    table.show(
        ("name", "task", "licence", "size", "state"),
        [
            (
                row["name"],
                row["task"],
                Text(row["licence"], "yellow" if "AGPL" in row["licence"] else ""),
                f"{row['size_bytes'] / 1e6:.1f} MB",
                "here" if row["fetched"] else Text("fetched on first use", "dim"),
            )
            for row in rows
        ],
        whole=("name",),
        right=("size",),
    )
