"""``saccade verify``: what a model's fast precision costs in exactness, on pictures of one's own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from saccade.cli import printable
from saccade.cli.house import Number, compiled, counted, fetched, library, model_options, settings
from saccade.cli.sources import Source, expand
from saccade.errors import BadInput

if TYPE_CHECKING:
    from saccade.results import ByteArray
    from saccade.verify import Report


@click.command(name="verify")
@click.argument("ref")
@click.argument("sources", nargs=-1, metavar="[IMAGE]...")
@click.option("--conf", type=Number(0, 1), help="Keep scores above this.")
@click.option("--iou", type=Number(0, 1), help="Overlap at which the weaker of two boxes is dropped.")
@click.option("--imgsz", type=click.IntRange(32, 4096), help="Longer side of the network's input, in pixels.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
@model_options
def COMMAND(
    ref: str, sources: tuple[str, ...], as_json: bool, folders: tuple[str, ...], home: str | None, **chosen: Any
) -> None:
    """Compare the fast answers of the model REF (--precision auto) with its exact ones (--precision f32).

    IMAGE is an image, a folder or a pattern in quotes; without any, drawn pictures are compared, in which there is
    little to find. Exits with 1 if the two differ by more than noise.
    """
    given = settings(home=home, models=folders or None)
    wanted = expand(sources)
    from saccade.call import Options
    from saccade.discover import budget
    from saccade.runtimes.session import Compute
    from saccade.verify import verify

    images = _opened(wanted) if wanted else None
    options = Options(**{name: value for name, value in chosen.items() if value is not None})
    compute = Compute(threads=given.threads or budget().threads, lone=False, cache_dir=compiled(given))
    with counted("comparing") as told:
        report = verify(fetched(library(given), ref), compute, images, options, told)
    click.echo(msgspec.json.encode(report).decode()) if as_json else _print(report)
    if not report.agrees:
        sys.exit(1)


def _opened(wanted: Sequence[Source]) -> list[ByteArray]:
    """The pictures; videos, which lie beside them in many a folder, are left out.

    Raises:
        BadInput: a picture cannot be read, with the file's name, or there is none.
    """
    from saccade import media

    images = []
    for source in wanted:
        try:
            data = source.read()
            if media.kind(data) == "video":
                note = f"{source.name} is a video, and left out: pictures are compared."
                click.secho(printable(note), err=True, fg="yellow")
                continue
            images.append(media.decode(data).rgb)
        except BadInput as error:
            raise BadInput(f"{source.name}: {error.message}") from error
    if not images:
        raise BadInput("There is no picture to compare. Name an image, or a folder with images.")
    return images


def _print(report: Report) -> None:
    different = report.difference
    pictures = ("" if report.own_pictures else "drawn ") + ("picture" if report.images == 1 else "pictures")
    click.echo(f"{report.model}: {report.precision} against f32 on {report.images} {pictures}")
    if report.precision == "f32":
        click.echo("Nothing is faster than f32 here: both are the same, and their times differ by chance.")
    objects = [different.matched, different.missing, different.extra]
    both, exact, fast = objects if different.pixel_share is None else [None] * 3
    fast_name = "auto" if report.precision == "f32" else report.precision
    rows: list[tuple[str, float | None, str]] = [
        ("found by both", both, "{:.0f}"),
        ("only by f32", exact, "{:.0f}"),
        (f"only by {fast_name}", fast, "{:.0f}"),
        ("best score among those", different.unmatched_score, "{:.3f}"),
        ("score, largest difference", different.score_max, "{:.4f}"),
        ("score, mean difference", different.score_mean, "{:.4f}"),
        ("box, largest difference", different.box_px_max, "{:.2f} px"),
        ("box, median difference", different.box_px_median, "{:.2f} px"),
        ("keypoint, largest difference", different.keypoint_px_max, "{:.2f} px"),
        ("mask overlap, least", different.mask_iou_min, "{:.3f}"),
        ("mask overlap, mean", different.mask_iou_mean, "{:.3f}"),
        ("equal pixels", different.pixel_share, "{:.2%}"),
        # It stands in for objects where there are few; a graph that sorts its objects swaps two of equal score.
        ("outputs' error", None if report.own_pictures else report.output_error, "{:.2%} of their spread"),
        ("one run in f32", report.exact_ms, "{:.1f} ms"),
        (f"one run in {fast_name}", report.fast_ms, "{:.1f} ms"),
    ]
    for name, value, form in rows:
        if value is not None:
            click.echo(f"  {name:<29} {form.format(value)}")
    if not report.own_pictures:
        click.echo(
            f"Little is to be found in drawn pictures. Compare photos of yours: saccade verify {report.model} photos/"
        )
    click.secho(
        "They agree." if report.agrees else "They differ by more than noise; --precision f32 gives the exact answers.",
        fg="green" if report.agrees else "yellow",
    )
