"""What the demo submits: real lines, some as turns of named agents, the others in a bulk and alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ops.lines import SYSTEM_MESSAGE, Line, load_lines

AGENTS = ("nginx", "syslog", "postgres", "python", "dpkg")
"""Families of which an agent reads some lines, one after the other, in one conversation."""

TURNS = 4
ALONE = 8
"""Jobs submitted one by one, as scripts and colleagues would."""

MAX_TOKENS = 256


@dataclass(frozen=True)
class Entry:
    """One real line to be read; ``name`` is its family and its number in the file."""

    name: str
    line: Line
    agent: str | None = None


@dataclass(frozen=True)
class Work:
    """All entries by the way in which they are submitted."""

    conversations: tuple[tuple[Entry, ...], ...]
    alone: tuple[Entry, ...]
    bulk: tuple[Entry, ...]

    @property
    def total(self) -> int:
        """How many jobs that makes."""
        return sum(map(len, self.conversations)) + len(self.alone) + len(self.bulk)


def choose(jobs: int) -> Work:
    """``jobs`` lines, spread over all families and over each family's file."""
    chosen = _spread(_named(load_lines()), jobs)
    conversations = []
    for family in AGENTS:
        turns = [entry for entry in chosen if entry.line.family == family][:TURNS]
        conversations.append(tuple(Entry(t.name, t.line, f"{family}-reader") for t in turns))
    taken = {entry.name for turns in conversations for entry in turns}
    left = [entry for entry in chosen if entry.name not in taken]
    step = max(1, len(left) // ALONE)
    alone = left[::step][:ALONE]
    bulk = [entry for entry in left if entry not in alone]
    return Work(tuple(conversations), tuple(alone), tuple(bulk))


def _named(lines: Sequence[Line]) -> list[Entry]:
    return [
        Entry(f"{family}/{number}", line)
        for family, group in groupby(lines, key=lambda line: line.family)
        for number, line in enumerate(group, start=1)
    ]


def _spread(entries: Sequence[Entry], count: int) -> list[Entry]:
    """``count`` of the entries at even distances, in their order."""
    count = min(count, len(entries))
    return [entries[at * len(entries) // count] for at in range(count)]


def body(entry: Entry, earlier: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """The job for an entry; ``earlier`` are the lines and answers of the conversation so far."""
    messages = [{"role": "system", "content": SYSTEM_MESSAGE}]
    for said, answered in earlier:
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": answered}]
    messages.append({"role": "user", "content": entry.line.text})
    asked: dict[str, Any] = {
        "messages": messages,
        "max_tokens": MAX_TOKENS,
        "tags": ["demo"],
        "metadata": {"line": entry.name},
    }
    if entry.agent is not None:
        asked |= {"agent": entry.agent, "priority": "interactive"}
    return asked
