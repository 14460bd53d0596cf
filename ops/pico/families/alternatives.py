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


def _slaves(name: str, rng: Random) -> str:
    """None to three companions, their names and places often made from the link's."""
    text = ""
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        slave = rng.choice((f"{name}.1.gz", f"{name}.1.gz", f"{name}-{words.word(rng)}", _link(rng)))
        folder = rng.choice(("/usr/share/man/man1", words.path(rng)))
        target = rng.choice(
            (f"{words.path(rng)}/{slave}", f"{folder}/{name}-{words.word(rng)}.1.gz", words.path(rng))
        )
        text += f" --slave {folder}/{slave} {slave} {target}"
    return text


def _target(name: str, rng: Random) -> str:
    """Where a link points, often a place that holds the link's name or says parts of itself again."""
    folder, again = rng.choice(("/usr/bin", words.path(rng))), words.identifier(rng, "-")
    return rng.choice((
        words.path(rng), words.path(rng), f"{folder}/{name}", f"{folder}/{name}-{words.word(rng)}",
        f"{folder}/{name[: max(1, len(name) - 2)]}", f"{folder}/{again}/{words.word(rng)}-{again}/bin/{name}",
    ))  # fmt: skip


def write(rng: Random) -> Written:
    """One line: the call that installs a link, or the link that moved."""
    time, name = f"{words.day(rng)} {words.clock(rng)}", _link(rng)
    target = _target(name, rng)
    head = f"update-alternatives {time}: "
    fields = {"time": time, "link": name, "path": target, "priority": ""}
    if rng.random() < 0.4:
        return f"{head}link group {name} updated to point to {target}", fields
    fields["priority"] = words.digits(rng, 1, 4)
    quiet = rng.choice(("", "", "--quiet ", "--force "))
    place = rng.choice((f"/usr/bin/{name}", f"/usr/bin/{name}", f"{words.path(rng)}/{name}", words.path(rng)))
    call = f"run with {quiet}--install {place} {name} {target} {fields['priority']}"
    return head + call + _slaves(name, rng), fields


ALTERNATIVES = Family(
    names=("alternatives", "update-alternatives", "links"),
    descriptions=(
        "the program that points generic commands at real ones",
        "which link of the system now points to which path",
        "links installed with a priority or moved to another target",
    ),
    write=write,
)
