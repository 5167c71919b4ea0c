"""Writes the generated parts of the documentation: what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``.

python docs/generate.py            writes them anew (make docs)
python docs/generate.py --check    exits with 1 and names the files that are out of date
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import click

from saccade import dialects, errors, families, runtimes
from saccade.cli import cli
from saccade.dialects.dialect import STATUS
from saccade.server import settings
from saccade.server.openapi import title
from saccade.stores import architectures
from saccade.stores.catalogue import Offer, built_in

DOCS = Path(__file__).resolve().parent
MARKED = re.compile(r"(<!-- (?P<name>\w+) -->\n).*?(<!-- /(?P=name) -->)", re.DOTALL)
WIDTH = 100
INTERNAL = {"simulated"}
"""Files of the wings that are for drills, not for users."""


def main() -> None:
    stale = [page for page in pages() if page.read_text() != written(page.read_text())]
    if "--check" in sys.argv:
        print("\n".join(f"{page.name} is out of date; run: make docs" for page in stale))
        sys.exit(bool(stale))
    for page in stale:
        page.write_text(written(page.read_text()))
        print(f"{page.name} is written")


def pages() -> list[Path]:
    """Every page of the documentation."""
    return sorted(DOCS.glob("*.md"))


def written(text: str) -> str:
    """A page with its generated parts as they should be.

    Raises:
        KeyError: a part has a name that nothing here writes.
    """
    return MARKED.sub(lambda found: f"{found[1]}\n{PARTS[found['name']]().strip()}\n\n{found[3]}", text)


def catalogue() -> str:
    """The models that can be fetched by name."""
    return table(
        ("name", "also called", "task", "licence", "size", "from", "verified"),
        (
            (
                f"`{offer.name}`",
                ", ".join(f"`{alias}`" for alias in offer.aliases),
                offer.task,
                licence(offer),
                f"{offer.size_bytes / 1e6:.1f} MB",
                offer.source,
                offer.verified,
            )
            for offer in built_in().model
            if offer.pieces
        ),
    )


def known() -> str:
    """The models that are known, but that no registry has."""
    return "\n".join(f"* `{offer.name}`, {licence(offer)}" for offer in built_in().model if not offer.pieces)


def licence(offer: Offer) -> str:
    """Printed so that nobody overlooks a strict one."""
    return f"**{offer.licence}**" if "GPL" in offer.licence else offer.licence


def family_list() -> str:
    """The families and what each reads."""
    return listed(families, "FAMILY")


def runtime_list() -> str:
    """The runtimes."""
    return listed(runtimes, "RUNTIME")


def architecture_list() -> str:
    """The classes of transformers by family."""
    rows = [*architectures.SPECIAL.items(), *((f"*{ending}", found) for ending, found in architectures.ENDINGS.items())]
    return table(
        ("class in `config.json`", "task", "family"), ((f"`{name}`", found.task, found.family) for name, found in rows)
    )


def dialect_list() -> str:
    """The APIs and their addresses."""
    rows: list[tuple[str, ...]] = []
    for name, module in members(dialects, "DIALECT"):
        for route in module.DIALECT.routes:
            path = re.sub(r"{(\w+):\w+}", r"{\1}", route.path)
            rows.append((title(module.DIALECT), f"`{name}`", f"`{' '.join(route.methods)} {path}`", route.action))
    return table(("API", "file", "address", "action"), rows)


def listed(wing: ModuleType, mark: str) -> str:
    rows = ((f"`{name}`", first_line(module)) for name, module in members(wing, mark))
    return table(("name", "what"), rows)


def members(wing: ModuleType, mark: str) -> Iterator[tuple[str, ModuleType]]:
    """The files of a wing that export something of its kind."""
    for found in pkgutil.iter_modules(wing.__path__):
        module = importlib.import_module(f"{wing.__name__}.{found.name}")
        if hasattr(module, mark) and found.name not in INTERNAL:
            yield found.name, module


def error_tree() -> str:
    """Every error with its status, children under their parents."""
    rows = [(f"{'&emsp;' * depth}`{kind.__name__}`", str(status(kind)), first_line(kind)) for kind, depth in tree()]
    return table(("error", "status", "when"), rows)


def tree(kind: type[errors.Error] = errors.Error, depth: int = 0) -> Iterator[tuple[type[errors.Error], int]]:
    yield kind, depth
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child, depth + 1)


def status(kind: type[errors.Error]) -> int:
    return next(STATUS[each] for each in kind.__mro__ if each in STATUS)


def first_line(thing: object) -> str:
    return (thing.__doc__ or "").splitlines()[0].replace("``", "`")


def commands() -> str:
    """The help of every command."""
    parts = []
    for words, command in walked(cli, ("saccade",)):
        shown = {"info_name": " ".join(words), "terminal_width": WIDTH, "max_content_width": WIDTH}
        context = click.Context(command, **shown, **cli.context_settings)
        parts.append(f"{'#' * (1 + len(words))} {' '.join(words)}\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(parts)


def walked(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from walked(inner, (*words, name))


def table(head: tuple[str, ...], rows: object) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:  # type: ignore[attr-defined]
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines)


PARTS: Mapping[str, Callable[[], str]] = {
    "settings": settings.table,
    "catalogue": catalogue,
    "known": known,
    "families": family_list,
    "architectures": architecture_list,
    "runtimes": runtime_list,
    "dialects": dialect_list,
    "errors": error_tree,
    "commands": commands,
}

if __name__ == "__main__":
    main()
