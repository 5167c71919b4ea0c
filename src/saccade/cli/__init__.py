"""The ``saccade`` command: one file a command, imported only when it is called, so that ``--help`` is instant."""

from __future__ import annotations

import difflib
import errno
import importlib
import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from saccade import __version__
from saccade.errors import NO_FOLDER, BadOptions, BadSettings, Error, MissingExtra, RunFailed

COMMANDS: dict[str, str] = {
    "serve": "Serve models over the Hugging Face and Ultralytics APIs.",
    "predict": "Find out what is in images or videos, without a server.",
    "models": "List the models that are here and those that can be fetched.",
    "pull": "Fetch a model by name.",
    "add": "Add a model file or folder under a name.",
    "remove": "Remove an added or fetched model.",
    "keys": "Create, list and revoke access keys.",
    "endpoints": "Start, stop and replace dedicated endpoints.",
    "regions": "Show how far away the configured regions are.",
    "verify": "Compare a model's fast answers with its exact ones.",
    "tune": "Measure and keep the best streams and threads for a model.",
    "bench": "Measure a model or a running server.",
    "deploy": "Deploy the server to a Ray cluster.",
}
"""Every command and its one-line help; the command itself is ``COMMAND`` in the file of its name."""

HERE = Path(__file__).parent


class Failure(click.ClickException):
    """A saccade error on its way to the terminal: exit code 2 for what the caller typed or set, 1 for the rest."""

    def __init__(self, error: Error) -> None:
        message = error.message
        if isinstance(error, MissingExtra):  # the first pip on the path may be that of another environment
            message = message.replace("pip install", f"{shlex.quote(sys.executable)} -m pip install")
        super().__init__(printable(message))
        if isinstance(error, BadOptions | BadSettings):
            self.exit_code = 2  # type: ignore[misc]


def printable(text: str) -> str:
    """The text without what a terminal would obey, as names of files and of a stranger's labels may hold."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


class Lazy(click.Group):
    """A group that imports a command's file when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if (HERE / f"{name}.py").exists()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").COMMAND
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        near = [] if args[0] in known else difflib.get_close_matches(args[0], known, n=1, cutoff=0.7)
        if near:
            ctx.fail(f"There is no command '{args[0]}'. Did you mean '{near[0]}'?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def make_context(self, *words: Any, **extra: Any) -> click.Context:
        with told():  # --help and --version write here
            return super().make_context(*words, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with told():
            return super().invoke(ctx)


@contextmanager
def told() -> Iterator[None]:
    """Whatever saccade or the system refuses is told in a sentence."""
    try:
        yield
    except Error as error:
        raise Failure(error) from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever read the answer has seen enough
            raise
        raise Failure(refused(error)) from error


def refused(error: OSError) -> Error:
    """What the system would not do, in a sentence."""
    if isinstance(error, shutil.Error):  # of a folder that was copied: source, target and reason of every file
        _, target, reason = error.args[0][0]
        number = re.match(r"\[Errno (\d+)\]", reason)
        code = int(number[1]) if number else errno.EIO
        error = OSError(code, os.strerror(code), target)
    what = error.strerror or type(error).__name__
    where = f" ({error.filename2 or error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return RunFailed(f"There is no room left{where}. Free some, or choose another place.")
    if what.startswith(NO_FOLDER):
        return RunFailed("There is no folder for temporary files that can be written. Name one with TMPDIR.")
    return RunFailed(
        f"The system refused: {what}{where}. Where saccade keeps its files can be chosen with --home or SACCADE_HOME."
    )


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="saccade")
def cli() -> None:
    """From a photo to boxes: a vision inference server for your own machine."""


def main() -> None:
    """The console script."""
    if sys.platform.startswith("win"):
        sys.exit("Error: saccade runs on Linux and macOS. On Windows install it inside WSL, which is a Linux.")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows ASCII alone
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    cli.main(prog_name="saccade", color=False if plain else None)
