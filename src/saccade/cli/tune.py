"""``saccade tune``: the best way to run a model on this machine, measured and kept."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click
import msgspec

from saccade.cli.house import Number, compiled, fetched, library, model_options, settings

if TYPE_CHECKING:
    from saccade.engine.tuned import Trial


@click.command(name="tune")
@click.argument("ref", default="picodet-s")
@click.option("--seconds", type=Number(0.01, 600), default=1.0, show_default=True, help="Length of a round.")
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

    REF is picodet-s unless another is named. Run it while the machine does nothing else. The server uses what was found
    when it next loads the model.
    """
    given = settings(home=home, models=folders or None, precision=precision, device=device)
    card = fetched(library(given), ref)
    from saccade.discover import budget, machine_load
    from saccade.engine.tuned import tune
    from saccade.runtimes.session import Compute

    threads, load = given.threads or budget().threads, machine_load()
    if load > threads / 2:
        click.secho(f"The machine is busy (load {load:.1f}); the figures will be too low.", err=True, fg="yellow")
    compute = Compute(
        precision=given.precision, device=given.device, threads=threads, streams=threads, cache_dir=compiled(given)
    )
    with click.progressbar(length=1, label="measuring", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def report(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        outcome = tune(card, compute, report, round_s=seconds)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(outcome), indent=2))
        return
    for trial in outcome.trials:
        click.echo(_row(trial, "  ← best" if trial == outcome.best else ""))


def _row(trial: Trial, mark: str) -> str:
    return (
        f"{trial.streams:>3} streams  {trial.threads:>3} threads  {trial.precision:>4}"
        f"  {trial.per_second:>8.1f} images/s  {trial.lone_ms:>7.1f} ms alone{mark}"
    )
