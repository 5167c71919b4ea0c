"""``saccade remove``: take a model out of saccade's own store."""

from __future__ import annotations

import click

from saccade.cli.house import Place, library, settings


@click.command(name="remove")
@click.argument("ref")
@click.option("--home", type=Place(file_okay=False), help="Where saccade keeps models and caches.")
def COMMAND(ref: str, home: str | None) -> None:
    """Remove an added or fetched model; files in your own --models folders are never touched.

    A model that a dedicated endpoint uses stays until the endpoint has another model or is removed.
    """
    from saccade.server.records import check_unused, kept

    given = settings(home=home)
    models = library(given)
    check_unused(models, ref, kept(given))
    models.remove(ref)
    click.echo(f"{ref} is removed.")
