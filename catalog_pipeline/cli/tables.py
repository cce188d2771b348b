"""Tables as lines of text, for terminals, logs and pipes alike."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

_WIDTH = 100_000  # lines are never wrapped: who reads them may be a program


def table_lines(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, left: bool = False
) -> list[str]:
    """Aligned columns, two spaces apart: the first one, or with ``left`` every one, to the left."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=True)
    for number, title in enumerate(head):
        first = left or not number
        table.add_column(Text(title), justify="left" if first else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]
