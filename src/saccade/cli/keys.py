"""``saccade keys``: access keys of this installation; a running server notices changes at once."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

import click

from saccade.cli import table
from saccade.cli.house import Number, Place, settings
from saccade.errors import BadOptions

SCOPES = ("models", "endpoints", "admin")
UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


@click.group(name="keys")
def COMMAND() -> None:
    """Create, list and revoke access keys."""


def _home(function: click.decorators.FC) -> click.decorators.FC:
    return click.option("--home", type=Place(file_okay=False), help="Where saccade keeps its keys.")(function)


@COMMAND.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="The key may change everything: models, keys, endpoints.")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="What the key may do; may be repeated."
)
@click.option("--model", "models", multiple=True, metavar="PATTERN", help="Only these models, for example yolo*.")
@click.option("--endpoint", "endpoints", multiple=True, metavar="PATTERN", help="Only these dedicated endpoints.")
@click.option("--limit", metavar="CALLS[/TIME]", help="Its own limit, such as 100/hour; 0 for none.")
@click.option("--expires-days", type=Number(min=0, min_open=True), help="It opens nothing after so many days.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@_home
def create(
    name: str,
    admin: bool,
    scopes: tuple[str, ...],
    models: tuple[str, ...],
    endpoints: tuple[str, ...],
    limit: str | None,
    expires_days: float | None,
    as_json: bool,
    home: str | None,
) -> None:
    """Create a key called NAME and show it, for the only time."""
    from saccade.server import keyring

    _check_scopes(admin, scopes, models, endpoints)
    if sys.stdout is None:
        raise BadOptions("Standard output is closed: nobody would see the key, which is shown only once.")
    calls, window_s = keyring.quota_of(limit) if limit is not None else (None, None)
    wanted = SCOPES if admin else scopes or (("models", "endpoints") if endpoints else ("models",))
    with keyring.opened(settings(home=home)) as keys:
        key, secret = keys.create(
            name,
            scopes=wanted,
            models=models or ("*",),
            endpoints=endpoints or ("*",),
            quota_calls=calls,
            quota_window_s=window_s,
            expires_days=expires_days,
        )
        try:
            if as_json:
                click.echo(json.dumps({**keyring.shown(key), "key": secret}))
            else:
                click.echo(
                    f"Key '{key.name}' is created. It is shown only now; store it safely:\n\n  {secret}\n\n"
                    "Send it as 'x-api-key: KEY' or 'Authorization: Bearer KEY'."
                )
        except OSError:  # nobody has seen it
            keys.revoke(key.id)
            raise


def _check_scopes(admin: bool, scopes: tuple[str, ...], models: tuple[str, ...], endpoints: tuple[str, ...]) -> None:
    """Raises BadOptions: one option takes back what another one gives."""
    if admin and scopes:
        raise BadOptions("--admin is every scope there is: leave out --scope, or --admin.")
    for scope, option, patterns in (("models", "--model", models), ("endpoints", "--endpoint", endpoints)):
        if scopes and patterns and scope not in scopes:
            raise BadOptions(
                f"{option} says which {scope} the key may call, and its scopes allow none: add --scope {scope}."
            )


@COMMAND.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
@_home
def list_(as_json: bool, home: str | None) -> None:
    """List the keys; the keys themselves are never shown again."""
    from saccade.server import keyring

    with keyring.opened(settings(home=home)) as keys:
        rows = [keyring.shown(key) for key in keys.all()]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        click.echo("No keys yet. Create one with: saccade keys create NAME")
        return
    titles = ("id", "name", "starts with", "may", "limit", "created", "last used", "expires")
    table.show(titles, [_cells(row) for row in rows], whole=("id", "name"))


@COMMAND.command()
@click.argument("which")
@_home
def revoke(which: str, home: str | None) -> None:
    """Revoke the key WHICH (its id, its name, or how it starts); it opens nothing from now on."""
    from saccade.server import keyring

    with keyring.opened(settings(home=home)) as keys:
        key = keys.revoke(which)
    click.echo(f"Key '{key.name}' ({key.id}) is revoked.")


def _cells(row: dict[str, Any]) -> list[str]:
    limit = "default" if row["limit"] is None else "none" if row["limit"] == 0 else str(row["limit"])
    if row["limit"] and row["window_s"]:
        limit += f"/{_span(row['window_s'])}"
    only = [pattern for field in ("models", "endpoints") for pattern in row[field] if pattern != "*"]
    may = ", ".join(row["scopes"]) + (f" (only {', '.join(only)})" if only else "")
    dates = (_date(row["created"]), _date(row["last_used"]), _date(row["expires"]) if row["expires"] else "never")
    return [row["id"], row["name"], f"{row['prefix']}…", may, limit, *dates]


def _span(seconds: int) -> str:
    """``3600`` → ``hour``, ``7200`` → ``2 hours``, as ``--limit`` takes them."""
    size, unit = next((size, unit) for size, unit in UNITS if seconds % size == 0)
    many = seconds // size
    return unit if many == 1 else f"{many} {unit}s"


def _date(moment: float | None) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%MZ") if moment else "–"
