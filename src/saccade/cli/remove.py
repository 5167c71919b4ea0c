"""``saccade remove``: take a model out of saccade's own store."""

from __future__ import annotations

import click

from saccade.cli.house import library, settings


@click.command(name="remove")
@click.argument("ref")
@click.option("--home", type=click.Path(file_okay=False), help="Where saccade keeps models and caches.")
def COMMAND(ref: str, home: str | None) -> None:
    """Remove an added or fetched model; files in your own --models folders are never touched."""
    library(settings(home=home)).remove(ref)
    click.echo(f"{ref} is removed.")
