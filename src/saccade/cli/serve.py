"""``saccade serve``: every setting is a flag, too."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from saccade.cli.house import Place
from saccade.errors import BadSettings
from saccade.server import settings as rooms

UNFLAGGED = {"regions"}
"""Settings that only the file can hold."""

GROUPS = rooms.grouped()
EVERYTHING = f"{__name__}.everything"


FIRST = ("The server", "Computing")
"""The groups of settings that everybody should see; the others are for those who look for something."""


class Grouped(click.Command):
    """A command with the settings as flags: ``--help`` tells the first ones, ``--help-all`` all, in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {param.name: record for param in self.get_params(ctx) if (record := param.get_help_record(ctx))}
        everything = ctx.meta.get(EVERYTHING, False)
        groups = {title: [records.pop(name) for name in names if name in records] for title, names in GROUPS.items()}
        with formatter.section("Options"):
            formatter.write_dl(list(records.values()))
        for title in groups if everything else FIRST:
            if groups[title]:
                with formatter.section(title):
                    formatter.write_dl(groups[title])
        if not everything:
            formatter.write_paragraph()
            formatter.write_text(f"{sum(map(len, groups.values()))} settings in all: {ctx.command_path} --help-all")


def setting_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name in reversed([name for name in rooms.NAMES if name not in UNFLAGGED]):
        function = _option(name)(function)
    return click.option(
        "--help-all", is_flag=True, is_eager=True, expose_value=False, callback=_tell_all, help="Show all settings."
    )(function)


def _tell_all(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.meta[EVERYTHING] = True
        click.echo(ctx.get_help())
        ctx.exit()


def _option(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    flag, hint, text = "--" + name.replace("_", "-"), rooms.HINTS[name], rooms.meaning(name)
    if hint is rooms.Text:
        text = f"{text.removesuffix('.')}; may be repeated."
    if name == "allow_url":
        return click.option(flag, name, multiple=True, is_flag=False, flag_value="*", metavar="[PATTERN]", help=text)
    if hint is bool:
        return click.option(f"{flag}/--no-{name.replace('_', '-')}" if not name.startswith("no_") else flag,
                            name, is_flag=True, default=None, help=text)  # fmt: skip
    if hint is rooms.Text:
        return click.option(flag, name, multiple=True, metavar="DIR" if name == "models" else "NAME", help=text)
    if get_origin(hint) is Literal:
        return click.option(flag, name, type=click.Choice(get_args(hint)), help=text)
    return click.option(
        flag, name, metavar={int: "N", float: "SECONDS" if name.endswith("_s") else "N"}.get(hint, "TEXT"), help=text
    )


@click.command(name="serve", cls=Grouped)
@setting_options
@click.option("--config", type=Place(dir_okay=False), help="The settings file (default: saccade.toml here).")
@click.option(
    "--ray", "ray_address", is_flag=False, flag_value="", metavar="[ADDRESS]",
    help="Serve on a Ray cluster: at ADDRESS, or one that is started on this machine.",
)  # fmt: skip
def COMMAND(config: str | None, ray_address: str | None, **flags: Any) -> None:
    """Serve models over the Hugging Face and Ultralytics APIs.

    Without keys and on a loopback address nobody is asked for a key; see `saccade keys`. Stop with Ctrl-C: calls that
    were accepted are finished first; a second Ctrl-C stops at once.
    """
    settings = rooms.load(given_in(flags), os.environ, file=Path(config) if config else None)
    if ray_address is not None:
        if settings.fronts > 1:
            raise BadSettings("On Ray every replica takes callers. Leave 'fronts' out, and set 'ray_replicas' instead.")
        from saccade.server import cluster

        cluster.serve(settings, ray_address or None)
        return
    from saccade.server import run

    run.serve(settings)


def given_in(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given; lists that were not are empty."""
    return {
        name: (list(value) if value else None) if isinstance(value, tuple) else value for name, value in flags.items()
    }
