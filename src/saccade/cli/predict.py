"""``saccade predict``: from photos, videos and cameras to boxes, on this machine, without a server."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saccade.cli import printable
from saccade.cli.house import Number, Place, compiled, ended_cleanly, fetched, library, model_options, settings
from saccade.cli.sources import Source, expand
from saccade.errors import BadInput, BadOptions, BadSettings, CallError, RunFailed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from saccade.call import Answer, Options
    from saccade.model import Model
    from saccade.results import ByteArray

FIXED = ("yolo", "picodet")
"""Families whose graphs may have a size that no option changes."""
FOLDER = "predictions"
"""Where ``--save`` writes when it names no folder."""


@click.command(name="predict")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--model", "-m", "ref", default="picodet-s", show_default=True, help="Which model looks.")
@click.option("--conf", type=Number(0, 1), help="Keep scores above this.")
@click.option("--iou", type=Number(0, 1), help="Overlap at which the weaker of two boxes is dropped.")
@click.option("--imgsz", type=click.IntRange(32, 4096), help="Longer side of the network's input, in pixels.")
@click.option("--classes", help="Keep only these class ids, for example 0,2,5.")
@click.option("--max-det", type=click.IntRange(1), help="Most objects per image.")
@click.option("--top-k", type=click.IntRange(1), help="How many labels a classifier gives.")
@click.option("--labels", multiple=True, help="What a zero-shot model looks for, for example cat,dog; may be repeated.")
@click.option("--hypothesis-template", help="Sentence with {} where the label goes.")
@click.option(
    "--stride",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Every how many frames of a video or camera.",
)
@click.option("--track", is_flag=True, help="Give objects in a video ids that stay with them.")
@click.option("--precision", type=click.Choice(["auto", "f32"]), help="auto: fastest; f32: the reference's numbers.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="What to compute on.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
@click.option(
    "--save",
    type=Place(),
    callback=lambda ctx, param, folder: _folder(folder),
    is_flag=False,
    flag_value=FOLDER,
    metavar="[DIR]",
    help=f"Write the pictures with what was found, into DIR (default: {FOLDER}).",
)
@model_options
def COMMAND(
    sources: tuple[str, ...],
    ref: str,
    classes: str | None,
    labels: tuple[str, ...],
    stride: int,
    track: bool,
    as_json: bool,
    save: str | None,
    folders: tuple[str, ...],
    home: str | None,
    precision: str | None,
    device: str | None,
    **chosen: Any,
) -> None:
    """Find out what is in images or videos, or before a camera.

    SOURCE is an image, a video, a folder, a pattern in quotes, or - for standard input; or one camera, until Ctrl-C:
    its address, such as rtsp://USER:PASSWORD@HOST/PATH, or 0 for the first of this machine.
    """
    given = settings(home=home, models=folders or None, precision=precision, device=device)
    shelf = library(given)
    wanted = expand(sources, Path(save) if save else None)
    from saccade.call import Options
    from saccade.discover import nvidia_driver

    if given.device == "cuda":
        nvidia_driver()

    options = Options(
        mask_form="crop",
        classes=_ids(classes),
        candidate_labels=tuple(label.strip() for words in labels for label in words.split(",")) or None,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    card = fetched(shelf, ref)
    _told(card, options)
    album = _album(Path(save), wanted) if save else {}
    look = Look(options=options, stride=stride, track=track, album=album)
    model = _open(card, given, len(wanted))
    printer = _Json() if as_json else _Table()
    try:
        with ended_cleanly():
            if wanted[0].camera is not None:
                failed = _watched(_camera(model, wanted[0].name, wanted[0].camera, look), printer)
            else:
                failed = _each(model, wanted, look, printer)
    finally:
        printer.end()
        model.close()
    if failed:
        sys.exit(1)


@dataclass(frozen=True, slots=True)
class Look:
    """How to look at every source; ``album`` says where its picture goes, without the ending."""

    options: Options
    stride: int
    track: bool
    album: Mapping[int, Path] = field(default_factory=dict)
    bar: Bar = field(default_factory=lambda: Bar())


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in one image or video frame, or why not; ``frame`` is its number in the video, from 0.

    ``first``: nothing of the source came before. Of a camera ``at`` says when the frame came, as of ``time.time``.
    """

    source: str
    answer: Answer | None = None
    frame: int | None = None
    first: bool = True
    saved: Path | None = None
    error: str | None = None
    at: float | None = None


def _folder(save: str | None) -> str | None:
    """Where to save. Raises BadOptions: it is no folder; the option takes the word that follows it."""
    if save == "":
        raise BadOptions(f"--save is an empty text. Name a folder, or put --save last, for the folder '{FOLDER}'.")
    if save is not None and Path(save).is_file():
        raise BadOptions(
            f"--save takes the folder that follows it, and '{save}' is a file. Name a folder, or put --save behind the "
            f"sources, for the folder '{FOLDER}'."
        )
    return save


def _ids(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BadOptions(f"--classes is {text!r}; expected class ids with commas between, for example 0,2,5.") from None


def _told(card: Any, options: Options) -> None:
    """Says what will be without effect. Raises BadOptions: labels are missing, or the model cannot use them."""
    zero_shot, labels = card.task == "zero-shot-classify", options.candidate_labels
    if zero_shot and labels is None:
        raise BadOptions(
            f"'{card.name}' looks for what it is told. Tell it with --labels, for example --labels cat,dog."
        )
    if options.imgsz is not None and card.family in FIXED and not card.dynamic and card.input_hw:
        height, width = card.input_hw
        note = f"'{card.name}' always looks at {height}×{width} pixels; --imgsz changes nothing."
        click.secho(note, err=True, fg="yellow")
    if not zero_shot and (labels is not None or options.hypothesis_template is not None):
        raise BadOptions(f"'{card.name}' knows its own labels; --labels is for zero-shot models such as CLIP.")


def _open(card: Any, given: Any, count: int) -> Model:
    from saccade.discover import budget
    from saccade.model import Model
    from saccade.runtimes.session import Compute

    threads = given.threads or budget().threads
    return Model(
        card,
        Compute(
            precision=given.precision,
            device=given.device,
            threads=threads,
            streams=threads if count > threads else 1,
            lone=False,
            cache_dir=compiled(given),
        ),
    )


def _album(folder: Path, wanted: Sequence[Source]) -> dict[int, Path]:
    """A place of its own in the folder for every source, by its number; what lies there is never written over.

    Raises:
        BadInput: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = {child.stem.lower() for child in folder.iterdir()}
    except OSError as error:
        raise BadInput(f"cannot write to {folder}: {error.strerror}. Choose another folder for --save.") from error
    places: dict[int, Path] = {}
    again: dict[str, Iterator[int]] = {}
    for number, source in enumerate(wanted):
        name = source.stem
        while name.lower() in taken:
            name = f"{source.stem}-{next(again.setdefault(source.stem.lower(), itertools.count(2)))}"
        taken.add(name.lower())
        places[number] = folder / name
    return places


def _each(model: Model, wanted: Sequence[Source], look: Look, printer: Printer) -> bool:
    """Prints every source in order while a few are worked on ahead; True if one failed."""
    failed = False
    with _pool() as pool, _bar(len(wanted), printer) as bar:
        look = replace(look, bar=bar)
        for found in _ahead(pool, model, wanted, look):
            failed |= found.error is not None
            printer.show(found)
            bar.step(found)
    return failed


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that begin nothing more once the work is broken off."""
    pool = ThreadPoolExecutor(max_workers=4)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(pool: ThreadPoolExecutor, model: Model, wanted: Sequence[Source], look: Look) -> Iterator[Found]:
    """Results in the order of the sources; at most eight sources are in memory at once."""

    def begun(number: int, source: Source) -> Callable[[], Iterable[Found]]:
        if source.may_wait:  # a thread that waits for what nobody sends could not be broken off
            return partial(_look, model, number, source, look)
        return pool.submit(_look, model, number, source, look).result

    rest = iter(enumerate(wanted))
    waiting = [begun(*source) for source in itertools.islice(rest, 8)]
    while waiting:
        yield from waiting.pop(0)()
        waiting.extend(begun(*source) for source in itertools.islice(rest, 1))


def _look(model: Model, number: int, source: Source, look: Look) -> Iterable[Found]:
    from saccade import media

    place = look.album.get(number)
    try:
        data = source.read()
        if media.kind(data) in ("video", "animation"):
            return _video(model, source, data, look, place)
        image_rgb = model.shown(media.decode(data))
        exact = model.predict(image_rgb, look.options)
        answer = _outlined(exact)
        return [Found(source.name, answer, saved=_save(_drawn(image_rgb, exact, answer), place) if place else None)]
    except (CallError, RunFailed) as error:
        return [Found(source.name, error=media.with_videos(error.message))]


def _video(model: Model, source: Source, data: bytes, look: Look, place: Path | None) -> Iterator[Found]:
    """One Found per processed frame; the annotated video grows alongside."""
    from saccade import media

    see = _eye(model, look)
    number = 0
    target = place.with_name(place.name + ".mp4") if place else None
    try:
        reel = media.reel(data)
        look.bar.frames(source.name, data, look.stride)
        with media.VideoWriter(target, fps=reel.fps / look.stride) if target else nullcontext(None) as film:
            for number, image_rgb in enumerate(media.frames(data, look.stride), 1):
                exact, answer = see(image_rgb)
                if film is not None:
                    film.write(_drawn(image_rgb, exact, answer))
                saved = film.path if film is not None else None
                yield Found(source.name, answer, frame=number * look.stride - 1, first=number == 1, saved=saved)
        if not number:
            note = f"{source.name} has fewer frames than --stride {look.stride}: none was looked at."
            click.secho(printable(note), err=True, fg="yellow")
    except BadSettings as error:
        yield Found(source.name, error=f"{error.message}. Choose another folder for --save.")
    except (CallError, RunFailed) as error:
        yield Found(source.name, error=error.message)


def _eye(model: Model, look: Look) -> Callable[[ByteArray], tuple[Answer, Answer]]:
    """A function that looks at one frame after another: the exact answer, and the one to tell, with ids if wanted."""
    tracker = _tracker() if look.track else None

    def see(image_rgb: ByteArray) -> tuple[Answer, Answer]:
        exact = model.predict(image_rgb, look.options)
        answer = _outlined(exact)
        return exact, answer if tracker is None else tracker(answer)

    return see


def _watched(stream: Generator[Found], printer: Printer) -> bool:
    """Prints what is before a camera until somebody ends it, which is no failure once there was a picture; True if
    nothing can be seen any more."""
    failed = seen = False
    with closing(stream):
        try:
            for found in stream:
                failed = found.error is not None
                printer.show(found)
                seen = True
        except KeyboardInterrupt as end:
            try:
                printer.show(stream.throw(end))  # the video ends, and may turn out not to be whole
                failed = True
            except KeyboardInterrupt:
                if not seen:
                    raise
    return failed


def _camera(model: Model, name: str, address: int | str, look: Look) -> Generator[Found]:
    """One Found per frame that was looked at; the annotated video grows alongside, also while there are no frames."""
    from saccade.media.camera import Camera, LiveWriter

    def tell(sentence: str) -> None:
        click.secho(printable(sentence), err=True, fg="yellow")

    see = _eye(model, look)
    place = look.album.get(0)
    target = place.with_name(place.name + ".mp4") if place else None
    first = True
    try:
        with (
            LiveWriter(target) if target else nullcontext(None) as film,
            Camera(address, tell, look.stride) as camera,
        ):
            for shot in camera.shots():
                if shot is None:
                    if film is not None:
                        film.live(None)
                    continue
                exact, answer = see(shot.image_rgb)
                if film is not None:
                    film.live(_drawn(shot.image_rgb, exact, answer))
                saved = film.path if film is not None else None
                yield Found(name, answer, frame=shot.number, first=first, saved=saved, at=shot.at)
                first = False
    except BadSettings as error:
        yield Found(name, error=f"{error.message}. Choose another folder for --save.")
    except (CallError, RunFailed) as error:
        yield Found(name, error=error.message)


def _tracker() -> Callable[[Answer], Answer]:
    from msgspec.structs import replace

    from saccade.tracking import Tracker

    tracker = Tracker()
    return lambda answer: replace(answer, result=tracker.update(answer.result))


def _outlined(exact: Answer) -> Answer:
    """The answer with its masks as outlines, which is how they are told."""
    from msgspec.structs import replace

    from saccade.ops.masks import rendered
    from saccade.results import Masks

    return replace(exact, result=rendered(exact.result, "polygon")) if isinstance(exact.result, Masks) else exact


def _drawn(image_rgb: ByteArray, exact: Answer, told: Answer) -> ByteArray:
    """The picture with what was found; of semantic maps with their holes, which outlines do not have."""
    from saccade.ops.draw import draw
    from saccade.results import Masks

    semantic = isinstance(exact.result, Masks) and exact.result.kind == "semantic"
    return draw(image_rgb, (exact if semantic else told).result)


def _save(drawn: ByteArray, place: Path) -> Path:
    from saccade.ops.draw import jpeg

    picture = jpeg(drawn)
    again, target = 1, place.with_name(f"{place.name}.jpg")
    while True:
        try:
            with open(target, "xb") as file:
                file.write(picture)
            return target
        except FileExistsError:  # of another run, which began when this one had looked into the folder
            again += 1
            target = place.with_name(f"{place.name}-{again}.jpg")
        except OSError as error:
            with suppress(OSError):
                target.unlink()  # half a picture is none
            raise BadInput(f"cannot write {target}: {error.strerror}. Choose another folder for --save.") from error


class Printer:
    """Shows what was found, one source at a time; ``console`` is what it writes to, if that can share a terminal."""

    console: Console | None = None

    def show(self, found: Found) -> None:
        """One source or frame."""

    def end(self) -> None:
        """After the last one."""


class _Json(Printer):
    """A JSON array, written item by item so that a long run can be read while it grows."""

    def __init__(self) -> None:
        self._begun = False
        click.echo("[", nl=False)

    def show(self, found: Found) -> None:
        text = (",\n" if self._begun else "\n") + json.dumps(_document(found))
        self._begun = True  # before it is written: who breaks off in between still gets a whole document
        click.echo(text, nl=False)

    def end(self) -> None:
        click.echo("\n]" if self._begun else "]")


class _Table(Printer):
    """A line per source, and a table of objects when there is room for one."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console: Console = Console(highlight=False, soft_wrap=True)
        self._details = 5

    def show(self, found: Found) -> None:
        from rich.markup import escape

        if found.answer is None:
            click.secho(printable(f"{found.source}: {found.error}"), err=True, fg="red")
            return
        height, width = found.answer.image_hw
        frame = "" if found.frame is None else f" frame {found.frame}"
        took = found.answer.timings
        spent = took.preprocess_ms + took.inference_ms + took.postprocess_ms
        saved = f"  → {found.saved}" if found.saved is not None and found.first else ""
        items = _items(found.answer)
        self.console.print(
            f"[bold]{escape(printable(found.source))}[/bold]{frame}  {width}×{height}  "
            f"{escape(printable(_summary(items)))}  [dim]{spent:.0f} ms[/dim]{escape(printable(saved))}"
        )
        if items and "min" not in items[0] and found.frame is None and self._details > 0:
            self._details -= 1
            self.console.print(_rows(items))


def _items(answer: Answer) -> list[dict[str, Any]]:
    from saccade.dialects.yolo_items import items
    from saccade.results import Depth

    if isinstance(answer.result, Depth):
        depth = answer.result.depth
        return [{"name": "depth", "class": 0, "confidence": 1.0, "min": float(depth.min()), "max": float(depth.max())}]
    return items(answer.result, answer.image_hw)


def _document(found: Found) -> dict[str, Any]:
    if found.answer is None:
        return {"source": found.source, "error": found.error}
    answer = found.answer
    document: dict[str, Any] = {"source": found.source}
    if found.frame is not None:
        document["frame"] = found.frame
    if found.at is not None:
        moment = datetime.fromtimestamp(found.at, UTC)
        document["time"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    document |= {
        "model": answer.model,
        "shape": list(answer.image_hw),
        "results": _items(answer),
        "speed": {
            "preprocess": round(answer.timings.preprocess_ms, 3),
            "inference": round(answer.timings.inference_ms, 3),
            "postprocess": round(answer.timings.postprocess_ms, 3),
        },
    }
    if found.saved is not None:
        document["saved"] = str(found.saved)
    return document


def _summary(items: list[dict[str, Any]]) -> str:
    if not items:
        return "nothing found"
    if "min" in items[0]:
        return f"depth from {items[0]['min']:.3g} to {items[0]['max']:.3g}"
    if "box" not in items[0]:
        return f"{items[0]['name']} ({items[0]['confidence']:.2f})"
    return ", ".join(f"{count} {name}" for name, count in Counter(item["name"] for item in items).most_common())


def _rows(items: list[dict[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=True, header_style="dim")
    table.add_column("class")
    table.add_column("score", justify="right")
    boxed = "box" in items[0]
    if boxed:
        corners = "x1 y1 x2 y2 x3 y3 x4 y4" if "x3" in items[0]["box"] else "x1 y1 x2 y2"
        table.add_column(f"box ({corners}, pixels)", overflow="fold")
    for item in items[:20]:
        row: list[str | Text] = [Text(printable(str(item["name"]))), f"{item['confidence']:.3f}"]
        if boxed:
            row.append("  ".join(f"{value:.0f}" for value in item["box"].values()))
        table.add_row(*row)
    if len(items) > 20:
        table.add_row(f"… {len(items) - 20} more", "")
    return table


class Bar:
    """How far the work is; this one shows nothing."""

    def step(self, found: Found) -> None:
        """A source or frame is done."""

    def frames(self, name: str, data: bytes, stride: int) -> None:
        """A video begins, of which every ``stride``-th frame is looked at."""


class _Progress(Bar):
    """Bars on the terminal: one for many sources, one for the video that is walked through."""

    def __init__(self, shown: Progress, total: int) -> None:
        self._shown = shown
        self._all = shown.add_task("looking", total=total, visible=total > 4)
        self._video: TaskID | None = None

    def step(self, found: Found) -> None:
        if found.frame is not None and self._video is not None:
            self._shown.advance(self._video)
        if found.first:
            self._shown.advance(self._all)

    def frames(self, name: str, data: bytes, stride: int) -> None:
        from saccade import media

        if self._video is not None:
            self._shown.remove_task(self._video)
        self._video = self._shown.add_task(Path(name).name, total=media.length(data) // stride)


@contextmanager
def _bar(total: int, printer: Printer) -> Iterator[Bar]:
    """Bars on the terminal: below the answers if these go there, too, else on standard error; none without one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = printer.console if sys.stdout and sys.stdout.isatty() else Console(stderr=True)
    if console is None or not console.is_terminal:
        yield Bar()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as shown:
        yield _Progress(shown, total)
