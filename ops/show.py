"""What appears on the terminal: tables, durations, JSON on stdout, words on stderr."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

STATE_STYLES = {
    "succeeded": "green",
    "running": "cyan",
    "queued": "yellow",
    "scheduled": "yellow",
    "failed": "red",
    "expired": "red",
    "cancelled": "dim",
}


def say(message: str, out: TextIO | None = None) -> None:
    """A sentence for the person, on stderr; where nobody listens any more, nothing happens."""
    out = out or sys.stderr
    try:
        print(message, file=out, flush=True)
    except OSError as error:
        if error.errno in {errno.EPIPE, errno.EIO}:  # the other program, or the terminal, has gone
            hush(out)


def hush(out: TextIO) -> None:
    """Let what goes to ``out`` go nowhere from now on: else Python tries to flush it once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, out.fileno())
    os.close(nowhere)


def document(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=_as_json), flush=True)


def line(value: Any) -> None:
    """One JSON line on stdout."""
    print(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_as_json), flush=True)


def _as_json(value: object) -> str:
    """Times in the API's form, RFC 3339 in UTC; anything else as it writes itself."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under headings on stdout; headings that begin with ``>`` stand on the right.

    Without a terminal the lines are as long as their content: nothing is cut
    in what goes to a file or another program.
    """
    grid = Table(title=title, title_justify="left", pad_edge=False, box=None, header_style="bold")
    for column in columns:
        grid.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left")
    for row in rows:
        grid.add_row(*map(_cell, row))
    console().print(grid)


def styled(text: str, style: str) -> Text:
    """A cell with a colour, where colours are shown."""
    return Text(text, style=style)


def console(*, stderr: bool = False) -> Console:
    """A console that neither reads markup in what jobs say nor wraps what no terminal shows."""
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = 1000
    return made


def _cell(cell: object) -> str | Text:
    if isinstance(cell, Text):
        return cell
    return "–" if cell is None else str(cell)


def seconds(amount: float | None) -> str | None:
    """A duration as people read it: 12 ms, 3.4 s, 5 min 20 s."""
    if amount is None:
        return None
    if amount < 1:
        return f"{amount * 1000:.0f} ms"
    if amount < 120:
        return f"{amount:.1f} s"
    return f"{int(amount // 60)} min {int(amount % 60)} s"


def moment(text: str | None) -> datetime | None:
    """A time as the API writes it."""
    return None if text is None else datetime.fromisoformat(text)


def between(start: str | None, end: str | None) -> float | None:
    """Seconds from one time of the API's to another, if both are known; clocks of processes may differ."""
    first, last = moment(start), moment(end)
    return None if first is None or last is None else max(0.0, (last - first).total_seconds())


def shortened(text: str, length: int) -> str:
    """The text on one line, cut to ``length`` characters with an ellipsis."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"
