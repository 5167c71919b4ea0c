"""``saccade models``: what is here, and what can be fetched by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from saccade.cli import printable, table
from saccade.cli.house import library, model_options, settings

if TYPE_CHECKING:
    from rich.text import Text


@click.command(name="models")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
@model_options
def COMMAND(as_json: bool, folders: tuple[str, ...], home: str | None) -> None:
    """List the models that are here and those that can be fetched by name."""
    shelf = library(settings(home=home, models=folders or None))
    problems = {name: problem.message for name, problem in shelf.problems().items()}
    here = [_row(card, fetched=True, problem=problems.get(card.name)) for card in shelf.cards()]
    names = {row["name"] for row in here}
    broken = [_unserved(name, problems[name]) for name in sorted(problems) if name not in names]
    names.update(problems)
    offered = [_row(entry, fetched=False) for entry in shelf.offers() if entry.name not in names]
    rows = [*here, *broken, *offered]
    click.echo(json.dumps(rows, indent=1)) if as_json else _print(rows)
    for name, problem in problems.items():
        click.secho(printable(f"{name} cannot be served: {problem}"), err=True, fg="yellow")


def _row(thing: Any, fetched: bool, problem: str | None = None) -> dict[str, Any]:
    return {
        "name": thing.name,
        "task": thing.task,
        "family": thing.family,
        "licence": thing.licence,
        "size_bytes": thing.size_bytes,
        "fetched": fetched,
        "source": thing.source if fetched else "catalogue",
        "aliases": list(thing.aliases),
        "problem": problem,
    }


def _unserved(name: str, problem: str) -> dict[str, Any]:
    """The row of what lies here and is no model that can be served: nothing else is known of it."""
    unknown = {"task": "", "family": "", "licence": "", "size_bytes": 0, "fetched": True, "source": "", "aliases": []}
    return {"name": name, **unknown, "problem": problem}


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.text import Text

    table.show(
        ("name", "task", "licence", "size", "state"),
        [
            (
                printable(row["name"]),
                row["task"] or "-",
                Text(row["licence"] or "-", "yellow" if "AGPL" in row["licence"] else ""),
                f"{row['size_bytes'] / 1e6:.1f} MB" if row["task"] else "-",
                _state(row),
            )
            for row in rows
        ],
        whole=("name",),
        right=("size",),
    )


def _state(row: dict[str, Any]) -> str | Text:
    from rich.text import Text

    if not row["task"]:
        return Text("cannot be served", "yellow")
    return "here" if row["fetched"] else Text("fetched on first use", "dim")
