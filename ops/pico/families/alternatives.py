"""Lines in the shape of Debian's alternatives.log (update-alternatives(1))."""

from __future__ import annotations

from random import Random

from ops.pico import words
from ops.pico.families.family import Family, Written


def _link(rng: Random) -> str:
    return rng.choice((
        words.identifier(rng), words.word(rng), words.word(rng) + "-" + words.word(rng),
        words.identifier(rng) + ".1.gz", words.word(rng) + words.digits(rng, 1, 2),
    ))  # fmt: skip


def _slaves(rng: Random) -> str:
    count = rng.choice((0, 0, 1, 1, 2, 3))
    return "".join(f" --slave {words.path(rng)} {_link(rng)} {words.path(rng)}" for _ in range(count))


def write(rng: Random) -> Written:
    """One line: the call that installs a link, or the link that moved."""
    time, name, target = f"{words.day(rng)} {words.clock(rng)}", _link(rng), words.path(rng)
    head = f"update-alternatives {time}: "
    fields = {"time": time, "link": name, "path": target, "priority": ""}
    if rng.random() < 0.5:
        return f"{head}link group {name} updated to point to {target}", fields
    fields["priority"] = words.digits(rng, 1, 4)
    quiet = rng.choice(("", "", "--quiet ", "--force "))
    place = rng.choice((f"/usr/bin/{name}", f"/usr/bin/{name}", words.path(rng)))
    call = f"run with {quiet}--install {place} {name} {target} {fields['priority']}"
    return head + call + _slaves(rng), fields


ALTERNATIVES = Family(
    names=("alternatives", "update-alternatives", "links"),
    descriptions=(
        "the program that points generic commands at real ones",
        "which link of the system now points to which path",
        "links installed with a priority or moved to another target",
    ),
    write=write,
)
