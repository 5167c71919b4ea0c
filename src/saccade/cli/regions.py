"""``saccade regions``: how far away each region is, as measured from here."""

from __future__ import annotations

import json

import click

from saccade.cli.house import settings


@click.command(name="regions")
@click.option("--attempts", type=click.IntRange(1, 50), default=5, show_default=True, help="Measurements per region.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def COMMAND(attempts: int, as_json: bool) -> None:
    """Measure the regions of saccade.toml, nearest first: mean ± standard deviation (min–max)."""
    import asyncio

    from saccade.server.regions import measured

    rows = asyncio.run(measured(settings().regions, attempts))
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        click.echo("No regions are configured. Add [[regions]] with name, url and place to saccade.toml.")
    for row in rows:
        latency = (
            f"{row['mean_ms']:.2f} ± {row['sd_ms']:.2f} ms ({row['min_ms']:.2f} – {row['max_ms']:.2f})"
            if row["mean_ms"] is not None
            else "unreachable"
        )
        click.echo(f"{row['name']:<24} {row['place']:<24} {latency}")
