"""Tables of the commands that list things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

WIDE = 100_000
"""Signs in a line of a pipe or a file, where every row is one line."""


def show(
    titles: Sequence[str], rows: Sequence[Sequence[str | Text]], *, whole: Sequence[str], right: Sequence[str] = ()
) -> None:
    """Prints rows under their titles; nothing is ever cut.

    Where a terminal is too narrow, cells go on below, but not those of the columns ``whole``, which people copy; where
    there is no room for these either, every row is told line by line. The columns ``right`` are justified to the right.
    """
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left", overflow="fold", no_wrap=title in whole)
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    for row in cells:
        table.add_row(*row)
    if Measurement.get(console, console.options.update(width=WIDE), table).minimum <= console.width:
        console.print(table)
    else:
        _line_by_line(console, titles, cells)


def _line_by_line(console: Console, titles: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    from rich.text import Text

    margin = max(map(len, titles)) + 2
    for number, row in enumerate(rows):
        if number:
            console.print()
        for title, cell in zip(titles, row, strict=True):
            console.print(Text.assemble((f"{title:<{margin}}", "bold"), cell), soft_wrap=True)
