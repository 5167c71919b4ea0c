"""``saccade tune``: the best way to run a model on this machine, measured and kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import msgspec

from saccade.cli.house import compiled, fetched, library, model_options, settings

if TYPE_CHECKING:
    from saccade.engine.tune import Trial


@click.command(name="tune")
@click.argument("ref", default="picodet-s")
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=3.0, show_default=True, help="Time for each trial.")
@click.option("--precision", type=click.Choice(["auto", "f32"]), help="f32: try nothing that changes the numbers.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="What to compute on.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
@model_options
def COMMAND(
    ref: str,
    seconds: float,
    precision: str | None,
    device: str | None,
    as_json: bool,
    folders: tuple[str, ...],
    home: str | None,
) -> None:
    """Measure how many streams and which precision suit the model REF best, and use them from now on.

    Run it while the machine does nothing else. The server uses what was found when it next loads the model.
    """
    given = settings(home=home, models=folders or None, precision=precision, device=device)
    card = fetched(library(given), ref)
    from saccade.discover import budget
    from saccade.engine.tune import tune
    from saccade.runtimes.session import Compute

    found = budget()
    threads = given.threads or found.threads
    if found.load > threads / 2:
        click.secho(f"The machine is busy (load {found.load:.1f}); the figures will be too low.", err=True, fg="yellow")
    compute = Compute(
        precision=given.precision, device=given.device, threads=threads, streams=threads, cache_dir=compiled(given)
    )
    trials: list[Trial] = []

    def tell(trial: Trial) -> None:
        trials.append(trial)
        if not as_json:
            click.echo(
                f"{trial.precision:>4}  {trial.streams:>2} streams  {trial.per_s:>8.1f} images/s"
                f"  {trial.alone_ms:>7.1f} ms alone"
            )

    best = tune(card, compute, seconds, tell)
    if as_json:
        document = {"model": card.name, "best": msgspec.to_builtins(best), "trials": msgspec.to_builtins(trials)}
        click.echo(json.dumps(document, indent=2))
        return
    extra = ", and a second compile for lone calls" if best.lone else ""
    click.echo(f"\n{card.name}: {best.streams} streams, {best.precision}{extra}: {best.per_s:.1f} images/s")
