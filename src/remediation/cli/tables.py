"""How a table finds room on a terminal: columns that get narrower, and records where even that is not enough."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

GAP = 2
"""Spaces between two columns."""
_PATH = re.compile(r"[~.]{0,2}/|[a-z][a-z0-9+.-]*://")
_SHORTEST_PATH = 12
_NARROWEST_PROSE = 20
_LONG = 36
_LONG_ALONE = 120
"""A word that is longer, in a sentence or alone in its cell, is no id of ours, and need not fit."""


def widths(columns: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """
    How wide each column is to be on a terminal of `room` cells; `None` if they can't all be shown there.

    No word is broken that may be copied or looked for (an id, a state, a code); paths are shortened and sentences wrapped for it.
    """
    table = [columns, *rows]
    wanted = [max(cell_len(row[index]) for row in table) for index in range(len(columns))]
    found = [max(_least(row[index]) for row in table) for index in range(len(columns))]
    spare = room - GAP * (len(columns) - 1) - sum(found)
    if spare < 0:
        return None
    while spare and (narrow := [index for index, width in enumerate(found) if width < wanted[index]]):
        found[min(narrow, key=lambda index: found[index])] += 1
        spare -= 1
    return found


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` cells, without its middle: of a path, the beginning and the last names stay."""
    if cell_len(text) <= width:
        return text
    end = text[-(width - 1) * 2 // 3 :]
    # Whole names say more than their ends.
    cut = end.find("/")
    end = end[cut:] if 0 <= cut < len(end) // 2 else end
    while end and cell_len(end) > width - 1:
        end = end[1:]
    begin = text[: width - 1 - cell_len(end)]
    while begin and cell_len(begin) + 1 + cell_len(end) > width:
        begin = begin[:-1]
    return f"{begin}…{end}"


def drawn(columns: Sequence[str], rows: Sequence[Sequence[Text]], given: Sequence[int]) -> Table:
    """The table with columns as wide as `given`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # What divides two columns of this box is a space, the rest of the gap.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), header_style="bold")
    for name, width in zip(columns, given, strict=True):
        table.add_column(name, width=width, overflow="fold")
    for row in rows:
        cells = []
        for cell, width in zip(row, given, strict=True):
            # Of a sentence nothing is left out: it says what to do.
            cells.append(cell if " " in cell.plain else Text(shortened(cell.plain, width), style=cell.style))
        table.add_row(*cells)
    return table


def _least(cell: str) -> int:
    """The fewest cells in which `cell` can be read."""
    if " " not in cell and _PATH.match(cell):
        return min(cell_len(cell), _SHORTEST_PATH)
    words = [word for word in cell.split() if not _PATH.match(word.lstrip("('\""))]
    longest = max((cell_len(word) for word in words if len(word) <= (_LONG if " " in cell else _LONG_ALONE)), default=0)
    return max(longest, min(cell_len(cell), _NARROWEST_PROSE))
