"""What the local commands share: the settings in force, the models of this machine, progress bars, an end in order."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from saccade.card import Card
from saccade.errors import BadOptions, UnknownModel
from saccade.stores.store import Progress

if TYPE_CHECKING:
    from saccade.library import Library
    from saccade.server.settings import Settings

Function = TypeVar("Function", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A number within its range; NaN is within none, though it compares as if it were within each."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if number != number:
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number


class Place(click.Path):
    """A path; ``~`` is the user's home also where the shell leaves it, as in ``--save=~/out``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(os.path.expanduser(value), param, ctx)


def model_options(function: Function) -> Function:
    """``--models`` and ``--home``: where models come from and where saccade keeps its own."""
    function = click.option(
        "--models",
        "folders",
        multiple=True,
        type=Place(exists=True),
        help="Folder with models of your own, or one model file; may be repeated.",
    )(function)
    return click.option("--home", type=Place(file_okay=False), help="Where saccade keeps models and caches.")(function)


def settings(**flags: object) -> Settings:
    """The settings in force, flags first."""
    from saccade.server import settings as rooms

    return rooms.load(flags, os.environ)


def library(given: Settings) -> Library:
    """The models of this machine, as the server would see them. Raises BadSettings where it would not start."""
    from saccade.server.shelves import check_folders, open_library

    check_folders(given)
    return open_library(given)


def compiled(given: Settings) -> str:
    """Where compiled graphs are kept: the same folder as the server's, so that either finds what the other made."""
    return str(Path(given.home) / "compiled")


def fetched(shelf: Library, ref: str) -> Card:
    """The Card of a model that can be opened; one of the catalogue's is brought here first, and a graph is made of a
    checkpoint, with a progress bar.

    Raises:
        UnknownModel, BadOptions: there is none of this name; the latter where it is that of a file.
    """
    try:
        card = shelf.card(ref)
        if card.runtime != "torch":
            return card
        with progress() as report:
            return shelf.ready(card, report)
    except UnknownModel:
        source = shelf.source(ref)
        if source is None or not source.on_use:
            _check_no_path(ref)
            raise
    with progress() as report:
        return shelf.pull(ref, report)


def _check_no_path(ref: str) -> None:
    """Raises BadOptions: where a model's name should be stands the path of a file, or of a folder with one model."""
    from saccade.stores.local import PICKLES, Local
    from saccade.stores.ultralytics import how_to

    path = Path(ref)
    if path.is_file() and path.suffix.lower() in PICKLES:
        raise BadOptions(how_to(ref))
    if path.is_file():
        what, name = "file", path.stem
    elif path.is_dir() and len(entries := Local([path]).entries()) == 1:
        what, name = "folder", entries[0].name
    else:
        return
    raise BadOptions(
        f"'{ref}' is a {what}, and models are called by name. Add it with 'saccade add {name} {ref}', or "
        f"give --models {ref} and call it '{name}'."
    )


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress bar on standard error; silent when that is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Amount(DownloadColumn):
        """Bytes; nothing for a step that is only under way or done."""

        def render(self, task: Task) -> Text:
            return super().render(task) if task.completed > 1 or (task.total or 0) > 1 else Text()

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        Amount(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    tasks: dict[str, Any] = {}

    def report(what: str, done: int, total: int | None) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)

    with bar:
        yield report


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work that comes in known pieces; silent when standard error is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def ended_cleanly() -> Iterator[None]:
    """SIGTERM, as of a scheduler, and SIGHUP, as of a terminal that is closed, end the work as Ctrl-C does: half a
    video does not stay, a document is closed, a server is stopped. What is ignored, as under nohup, stays so."""

    def end(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    former = {sign: signal.getsignal(sign) for sign in (signal.SIGTERM, signal.SIGHUP)}
    heard = [sign for sign, action in former.items() if action != signal.SIG_IGN]
    for sign in heard:
        signal.signal(sign, end)
    try:
        yield
    finally:
        for sign in heard:
            signal.signal(sign, former[sign])
