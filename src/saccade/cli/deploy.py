"""``saccade deploy``: the server on a Ray cluster that runs on without this command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from saccade.cli.house import Place
from saccade.cli.serve import Grouped, given_in, setting_options


@click.command(name="deploy", cls=Grouped)
@setting_options
@click.option("--address", default="auto", show_default=True, help="The cluster's address, as of 'ray start --head'.")
@click.option("--down", is_flag=True, help="Take saccade off the cluster instead; keys and endpoints are remembered.")
@click.option("--config", type=Place(dir_okay=False), help="The settings file (default: saccade.toml here).")
def COMMAND(address: str, down: bool, config: str | None, **flags: Any) -> None:
    """Run the shared API on a Ray cluster and return; dedicated endpoints that ran before come back.

    Every node needs `saccade[ray]` and the same models. `saccade serve --ray` starts a cluster on this machine.
    """
    from saccade.server import settings as rooms

    settings = rooms.load(given_in(flags), os.environ, file=Path(config) if config else None)
    from saccade.endpoints import ray
    from saccade.server import cluster

    ray.connect(address, cluster.prepare(address))
    try:
        if down:
            cluster.withdraw(settings.drain_timeout_s)
            click.echo("saccade is off the cluster.")
        else:
            cluster.deploy(settings)
            click.echo(f"saccade runs on the cluster: http://{settings.host}:{settings.port}")
    finally:
        ray.disconnect(False)
