"""``saccade endpoints``: dedicated endpoints of a running server."""

from __future__ import annotations

import json
import re
import time
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import click

from saccade.cli import table
from saccade.cli.talk import ask, server_options
from saccade.errors import Error

SETTLED = ("ready", "stopped", "failed")
PATIENCE_S = 300.0
SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) ?([KMG]I?)?B?")
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}


@click.group(name="endpoints")
def COMMAND() -> None:
    """Start, stop and replace dedicated endpoints: a URL of its own for one model, with reserved replicas."""


@COMMAND.command()
@click.argument("name")
@click.option("--model", help="The model to serve; without it, the stopped endpoint NAME is started again.")
@click.option("--replicas", metavar="MIN:MAX", help="How many replicas; MIN 0 may sleep. In a new one 0:1.")
@click.option("--memory", metavar="SIZE", help="Memory limit of one replica, for example 2GB.")
@click.option("--idle-stop", type=click.IntRange(0), help="Sleep after so many idle seconds. In a new one 600.")
@click.option("--limit", type=click.IntRange(0), help="How many calls an hour it answers, of all keys; 0 for any.")
@click.option("--region", help="A region of saccade.toml, instead of this server.")
@click.option("--port", type=click.IntRange(0, 65535), help="A port of its own.")
@click.option("--hostname", help="A host name of its own.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is ready.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@server_options
def start(
    name: str, model: str | None, memory: str | None, idle_stop: int | None, limit: int | None, wait: bool,
    as_json: bool, url: str, key: str | None, **plan: Any,
) -> None:  # fmt: skip
    """Start the endpoint NAME.

    Without --model an endpoint that exists: started if it is down, and of the size that the options say.
    """
    size = {"memory_bytes": _bytes(memory), "idle_stop_s": idle_stop, "calls_per_hour": limit}
    given = {field: value for field, value in {"model": model, **size, **plan}.items() if value is not None}
    told = ask("POST", url, "/v1/endpoints", key, {"name": name, **given}, holds="state")
    _finish(_settled(name, url, key) if wait else told, as_json)


@COMMAND.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@server_options
def stop(name: str, as_json: bool, url: str, key: str | None) -> None:
    """Stop the endpoint NAME: accepted calls finish, then its URL answers 503."""
    _finish(ask("PATCH", url, _path(name), key, {"action": "stop"}, holds="state"), as_json)


@COMMAND.command()
@click.argument("name")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@server_options
def replace(name: str, model: str, as_json: bool, url: str, key: str | None) -> None:
    """Put MODEL behind the URL of NAME; the old model serves until the new one is healthy.

    An endpoint that has failed is started with it; one that is stopped stays stopped.
    """
    told = ask("PATCH", url, _path(name), key, {"action": "replace", "model": model}, holds="state")
    _finish(told if told["state"] in SETTLED else _settled(name, url, key), as_json)


@COMMAND.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@server_options
def list_(as_json: bool, url: str, key: str | None) -> None:
    """List the endpoints of the server."""
    rows = ask("GET", url, "/v1/endpoints", key, holds="endpoints")["endpoints"]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        click.echo("No endpoints yet. Start one with: saccade endpoints start NAME --model MODEL")
        return
    table.show(
        ("name", "model", "state", "replicas", "url"),
        [
            (row["name"], row["model"], row["state"], f"{row['replicas_now']} of {row['replicas']}", row["url"])
            for row in rows
        ],
        whole=("name", "model", "url"),
    )
    for row in rows:
        if row["reason"]:
            click.echo(f"{row['name']}: {row['reason']}")


@COMMAND.command()
@click.argument("name")
@server_options
def rm(name: str, url: str, key: str | None) -> None:
    """Stop the endpoint NAME and forget it."""
    told = ask("DELETE", url, _path(name), key, holds="removed")
    click.echo(f"{name} is removed. {told.get('note', '')}".strip())


def _path(name: str) -> str:
    return f"/v1/endpoints/{quote(name, safe='')}"


def _settled(name: str, url: str, key: str | None) -> Any:
    """The endpoint once it is up.

    Raises:
        Error: it failed, with the reason, or took too long.
    """
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        told = ask("GET", url, _path(name), key, holds="state")
        if told["state"] in SETTLED:
            if told["state"] == "failed":
                raise Error(f"The endpoint {name} failed: {told['reason']}")
            return told
        time.sleep(0.2)
    raise Error(f"The endpoint {name} is still {told['state']}. See: saccade endpoints list")


def _finish(told: Any, as_json: bool) -> None:
    click.echo(
        json.dumps(told) if as_json else f"{told['name']} is {told['state']} at {told['url']} ({told['model']})."
    )


def _bytes(size: str | None) -> int | None:
    """``"2GB"`` → 2,000,000,000; ``"512MiB"`` → 536,870,912."""
    if size is None:
        return None
    found = SIZE.fullmatch(size.strip().upper())
    if found is None:
        raise click.UsageError(f"--memory is '{size[:30]}'; expected a size such as 512MB or 2GiB, or 0 for no limit.")
    return int(Decimal(found[1]) * UNITS[found[2] or ""])
