"""Conversations to train on: one system message, then turns of a line and its fields as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from ops.pico.echoes import resembling
from ops.pico.families import KNOWN
from ops.pico.families.other import other
from ops.pico.handbook import Entry, handbook, single, wanted


@dataclass(frozen=True)
class Conversation:
    """A system message and its turns, each a line and the right answer."""

    system: str
    turns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Lesson:
    """What kind of conversations to write: ranges are inclusive, `tokens` is the longest length."""

    kinds: tuple[int, int]
    turns: int
    characters: tuple[int, int]
    tokens: int


SINGLE = Lesson(kinds=(1, 1), turns=5, characters=(0, 0), tokens=256)
SHORT = Lesson(kinds=(2, 4), turns=10, characters=(0, 500), tokens=768)
LONG = Lesson(kinds=(3, 9), turns=14, characters=(1000, 2300), tokens=1536)
LONGER = Lesson(kinds=(3, 9), turns=18, characters=(1000, 2300), tokens=2048)


def answer(fields: dict[str, str], order: tuple[str, ...]) -> str:
    """The wanted fields as compact JSON."""
    chosen = {name: fields[name] for name in order}
    return json.dumps(chosen, ensure_ascii=False, separators=(",", ":"))


def _entries(kinds: int, rng: Random) -> list[Entry]:
    """Draw `kinds` families; one may be of an unknown layout, and stands last then."""
    families = rng.sample(KNOWN, min(kinds, len(KNOWN)))
    if kinds > len(KNOWN) or rng.random() < (0.25 if kinds == 1 else 0.5):
        families = [*families[: kinds - 1], other(rng)]
    entries = []
    for family in families:
        _, fields = family.write(rng)
        entries.append(Entry(rng.choice(family.names), family, wanted(list(fields), rng)))
    return entries


def conversation(lesson: Lesson, rng: Random) -> Conversation:
    """One random conversation of the lesson, with more turns than fit its length."""
    entries = _entries(rng.randint(*lesson.kinds), rng)
    if len(entries) == 1:
        system = single(entries[0], rng)
    else:
        system = handbook(entries, rng.randint(*lesson.characters), rng)
    return Conversation(system, tuple(_turns(entries, lesson.turns, rng)))


def _turns(entries: list[Entry], count: int, rng: Random) -> Iterator[tuple[str, str]]:
    """Lines and answers; the lines of a family resemble each other more or less."""
    odds, earlier = rng.choice((0.0, 0.4, 0.8)), dict[str, dict[str, str]]()
    for _ in range(count):
        entry = rng.choice(entries)
        text, fields = resembling(entry.family.write(rng), earlier.get(entry.name, {}), odds, rng)
        earlier[entry.name] = fields
        yield text, answer(fields, entry.fields)


def conversations(lesson: Lesson, seed: int) -> Iterator[Conversation]:
    """Endless conversations of a lesson; the same seed gives the same ones."""
    rng = Random(f"{seed}/{lesson}")
    while True:
        yield conversation(lesson, rng)
