"""Made-up system messages: handbooks of 512 to 1,024 tokens, short lists, and single lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from ops.pico import words
from ops.pico.families import Family

OPENINGS = (
    "You read lines of logs and answer with JSON.",
    "You extract fields from log lines and short notices.",
    "This is the handbook of the log desk.",
    "You are the clerk who turns lines into records.",
    "Read the line and give back the wanted fields as one JSON object.",
    "Your work is to copy parts of a line into a small JSON object.",
    "The team keeps its records as compact JSON, one object for each line.",
)
RULES = (
    "Answer with one JSON object and nothing else.",
    "Copy every value from the line, letter by letter.",
    "Never change, translate, round or complete a value.",
    "Keep the order of the fields as it is given here.",
    "All values are strings, numbers too.",
    "If the line does not hold a field, give an empty string.",
    "Write no spaces between the parts of the object.",
    "Do not explain what you do.",
    "Times are copied as they stand, with their zone if there is one.",
    "Leave out brackets and quotation marks around a value.",
    "A message is everything up to the end of the line.",
    "Quotation marks inside a value are escaped with a backslash.",
    "Each new line of the conversation stands for itself.",
    "Earlier lines and answers have no influence on the next answer.",
    "Use the list that belongs to the kind of the line.",
    "Do not add fields that nobody asked for.",
)
ASIDES = (
    "The records go to a table that {a} of the {b} team reads every morning.",
    "Before the {a} was introduced, people copied the lines by hand.",
    "A wrong {a} costs more than a missing one, because nobody looks at the {b} again.",
    "The {a} department asked for this in {y}, after the {b} had failed for {n} hours.",
    "We keep the originals for {n} days, then the {a} service removes them.",
    "Questions about the {a} are answered by the {b} group on {d}.",
    "There are about {n} lines an hour, most of them from the {a} in the {b} room.",
    "If you are in doubt, think of the person who has to find the {a} at night.",
    "The same handbook is used for the {a}, the {b} and the machines of the {c} site.",
    "Some of the programs write in English only; the {a} also writes in other languages.",
    "A line can be long: {n} characters are not rare when the {a} reports its {b}.",
    "The {a} was written by several people, so the style of its {b} differs.",
    "Do not worry about the {a}; it is checked by another program.",
    "Version {n} of this handbook replaces the one of {y}.",
    "What is called a {a} here was called a {b} in the past.",
    "The order of the kinds below has no meaning.",
    "Hosts are named after their {a}, for example {b}{n} or {c}.",
    "The clocks of all machines are set by the {a} once a day.",
    "Our {a} and our {b} belong to the {c} network and are looked after together.",
    "Please remember that the {a} is shared by {n} users.",
)
ENTRIES = (
    "- {name}: {description}. Fields: {fields}.",
    "- {name} ({description}): {fields}",
    "{name}: {fields}. This is {description}.",
    "## {name}\n{description}\nfields: {fields}",
    "For {name} ({description}) give {fields}.",
    "* {name} -> {fields}",
    "{name} = {description}; wanted: {fields}",
)
SINGLES = (
    "Fields: {fields}.",
    "Give the fields {fields} as JSON.",
    "Answer with JSON. Fields: {fields}",
    "Extract {fields} from each line.",
    "Wanted fields: {fields}. Answer with one JSON object, values copied from the line.",
    "You read log lines. Return {fields} as a compact JSON object.",
)


@dataclass(frozen=True)
class Entry:
    """A family as one handbook names it, with the fields that this handbook wants."""

    name: str
    family: Family
    fields: tuple[str, ...]


def wanted(fields: Sequence[str], rng: Random) -> tuple[str, ...]:
    """All fields in their usual order, or a subset in any order."""
    if rng.random() < 0.4:
        return tuple(fields)
    least = min(len(fields), 2)
    return tuple(rng.sample(list(fields), rng.randint(least, len(fields))))


def aside(rng: Random) -> str:
    """A sentence that has nothing to do with what is asked."""
    text = rng.choice(ASIDES)
    return text.format(
        a=words.word(rng), b=words.word(rng), c=words.word(rng), n=rng.randint(2, 900),
        y=rng.randint(1990, 2035), d=rng.choice(("Monday", "Tuesday", "Friday", "Sunday")),
    )  # fmt: skip


def single(entry: Entry, rng: Random) -> str:
    """A short system message with one list of fields for all lines."""
    return rng.choice(SINGLES).format(fields=", ".join(entry.fields))


def handbook(entries: Sequence[Entry], length: int, rng: Random) -> str:
    """A system message with a section for each entry and prose up to about `length` characters."""
    shape, gap = rng.choice(ENTRIES), rng.choice(("\n", "\n\n"))
    sections = [
        shape.format(
            name=entry.name,
            description=rng.choice(entry.family.descriptions),
            fields=", ".join(entry.fields),
        )
        for entry in entries
    ]
    before = [rng.choice(OPENINGS), *rng.sample(RULES, rng.randint(2, 6))]
    after: list[str] = []
    while sum(map(len, (*before, *sections, *after))) < length:
        sentence = rng.choice(RULES) if rng.random() < 0.3 else aside(rng)
        rng.choice((before, before, after)).append(sentence)
        if rng.random() < 0.12:
            place = rng.randrange(len(sections))
            sections[place] += " " + aside(rng)
    parts = (_paragraphs(before, rng), gap.join(sections), _paragraphs(after, rng))
    return "\n\n".join(part for part in parts if part)


def _paragraphs(sentences: Sequence[str], rng: Random) -> str:
    """Join sentences, with a new paragraph now and then."""
    text = ""
    for sentence in sentences:
        gap = "" if not text else rng.choice((" ", " ", " ", "\n", "\n\n", "\n- "))
        text += gap + sentence
    return text
