"""Lines of no known program: parts drawn at random, in a layout drawn at random.

A family is a `Layout`; all its lines look alike, as one program's lines do. With these the LLM
learns to read a layout instead of knowing eight of them by heart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from ops.pico import prose, words
from ops.pico.families.family import Family, Written

Part = Callable[[Random], str]

_TIMES: tuple[Part, ...] = (
    lambda rng: f"{words.day(rng)} {words.clock(rng)}",
    lambda rng: f"{words.day(rng)}T{words.clock(rng)}Z",
    lambda rng: f"{words.day(rng)}T{words.clock(rng)}.{words.fraction(rng)}{words.zone(rng)}",
    lambda rng: f"{words.clock(rng)}.{words.fraction(rng)}",
    lambda rng: f"{words.day(rng).replace('-', '/')} {words.clock(rng)}",
    lambda rng: (
        f"{rng.choice(words.DAYS)} {rng.choice(words.MONTHS)} {rng.randint(1, 31):2} "
        f"{words.clock(rng)} {rng.randint(1998, 2039)}"
    ),
    lambda rng: (
        f"{rng.randint(1, 31):02} {rng.choice(words.MONTHS)} {rng.randint(1998, 2039)} {words.clock(rng)}"
    ),
    lambda rng: (
        f"{rng.randint(1, 31):02}-{rng.choice(words.MONTHS)}-{rng.randint(1998, 2039)} {words.clock(rng)}"
    ),
    lambda rng: f"{rng.randint(900000000, 2100000000)}.{words.fraction(rng)}",
)
_LEVELS = (
    "INFO WARN ERROR DEBUG".split(),
    "info warning error debug notice".split(),
    "I W E D F".split(),
    "INF WRN ERR DBG".split(),
    ". - # !".split(),
)
_NAMES: dict[str, tuple[str, ...]] = {
    "time": ("time", "time", "date", "timestamp", "when"),
    "level": ("level", "level", "severity"),
    "name": ("name", "program", "logger", "source", "module"),
    "pid": ("pid", "pid", "process"),
    "host": ("host", "client", "address"),
    "number": ("number", "count", "size", "code", "status"),
    "message": ("message", "message", "text"),
}
_WRAPS = ("{}", "{}", "{}", "[{}]", "[{}]", "({})", "<{}>", "{}:", "{} -", "{} |", "{},", "'{}'")


@dataclass(frozen=True)
class Layout:
    """The parts of one made-up program's lines, in their order, with what stands around each."""

    slots: tuple[tuple[str, str, Part], ...]
    joint: str

    def write(self, rng: Random) -> Written:
        """One line in this layout and its fields."""
        values = [(field, wrap, part(rng)) for field, wrap, part in self.slots]
        text = self.joint.join(wrap.format(value) for _, wrap, value in values)
        return text, {field: value for field, _, value in values}


def _part(kind: str, rng: Random) -> Part:
    levels = rng.choice(_LEVELS)
    parts: dict[str, Part] = {
        "time": rng.choice(_TIMES),
        "level": lambda draw: draw.choice(levels),
        "name": rng.choice((words.word, words.identifier, prose.dotted_name)),
        "pid": lambda draw: words.digits(draw, 1, 6),
        "host": rng.choice((words.host, words.address)),
        "number": rng.choice((prose.figure, lambda draw: words.digits(draw, 1, 7))),
        "message": prose.message,
    }
    return parts[kind]


def layout(rng: Random) -> Layout:
    """Draw a layout of two to six parts; a message stands last."""
    kinds = rng.sample(("time", "level", "name", "pid", "host", "number"), rng.randint(1, 5))
    if rng.random() < 0.7 and "time" in kinds:
        kinds.sort(key=lambda kind: kind != "time")
    pairs = rng.random() < 0.2
    slots = []
    for kind in kinds:
        field = rng.choice(_NAMES[kind])
        wrap = f"{field}={{}}" if pairs else rng.choice(_WRAPS)
        slots.append((field, wrap, _part(kind, rng)))
    ending = 'msg="{}"' if pairs else rng.choice(("{}", "{}", "{}", '"{}"', "- {}"))
    slots.append((rng.choice(_NAMES["message"]), ending, prose.message))
    return Layout(tuple(slots), "\t" if rng.random() < 0.03 else " ")


def other(rng: Random) -> Family:
    """A family of lines in one random layout."""
    return Family(
        names=("any other line", "anything else", "other", "other lines", "all other lines"),
        descriptions=("whatever is not named above", "lines of other programs", "the rest"),
        write=layout(rng).write,
    )
