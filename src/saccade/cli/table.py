"""Tables of the commands that list things."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod
    from rich.text import Text

GAP = 2
"""Blanks between columns."""
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
    from rich.text import Text

    console = Console(highlight=False)
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    lines = [[Text(title, "bold") for title in titles], *cells]
    widths = _widths(lines, [title in whole for title in titles], console.width if console.is_terminal else WIDE)
    if widths is None:
        below = _line_by_line(titles, cells)
    else:
        # rich's own table takes a millisecond or two for a row, and thousands of keys are no rarity.
        sides: list[JustifyMethod] = ["right" if title in right else "left" for title in titles]
        below = Text("\n").join(line for row in lines for line in _laid(console, row, widths, sides))
    console.print(below, soft_wrap=True)


def _widths(rows: Sequence[Sequence[Text]], whole: Sequence[bool], room: int) -> list[int] | None:
    """What each column takes: all that its cells need or, where the room is too small, the widest ones less, down to
    their longest word; None if that is still too much."""
    columns = list(zip(*rows, strict=True))
    widths = [max(cell.cell_len for cell in column) for column in columns]
    over = sum(widths) + GAP * (len(widths) - 1) - room
    if over <= 0:
        return widths
    least = [
        width if kept else max(_longest_word(cell) for cell in column)
        for column, kept, width in zip(columns, whole, widths, strict=True)
    ]
    for _ in range(over):
        number = max(range(len(widths)), key=lambda number: (widths[number] > least[number], widths[number]))
        if widths[number] == least[number]:
            return None
        widths[number] -= 1
    return widths


def _longest_word(cell: Text) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, cell.plain.split()), default=0)


def _laid(
    console: Console, row: Sequence[Text], widths: Sequence[int], sides: Sequence[JustifyMethod]
) -> Iterator[Text]:
    """The lines of a row: one, or more where a cell goes on below."""
    from rich.text import Text

    folded = [
        [cell] if cell.cell_len <= width else list(cell.wrap(console, width, overflow="fold"))
        for cell, width in zip(row, widths, strict=True)
    ]
    for number in range(max(map(len, folded))):
        line = Text()
        for at, (parts, width, side) in enumerate(zip(folded, widths, sides, strict=True)):
            part = parts[number] if number < len(parts) else Text()
            blank = " " * (width - part.cell_len)
            line.append(" " * GAP if at else "").append(blank if side == "right" else "")
            line.append_text(part).append("" if side == "right" else blank)
        line.rstrip()
        yield line


def _line_by_line(titles: Sequence[str], rows: Sequence[Sequence[Text]]) -> Text:
    from rich.text import Text

    margin = max(map(len, titles)) + GAP
    told = [
        Text("\n").join(
            Text.assemble((f"{title:<{margin}}", "bold"), cell) for title, cell in zip(titles, row, strict=True)
        )
        for row in rows
    ]
    return Text("\n\n").join(told)
