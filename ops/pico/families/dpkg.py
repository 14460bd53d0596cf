"""Lines in the shape of Debian's dpkg.log (format: dpkg(1), `--log`)."""

from __future__ import annotations

from random import Random

from ops.pico import words
from ops.pico.families.family import Family, Written

_STATES = (
    "installed unpacked half-installed half-configured config-files not-installed "
    "triggers-pending triggers-awaited"
).split()
_ARCHES = "amd64 all amd64 all arm64 i386 armhf riscv64 ppc64el s390x".split()
_ACTIONS = "install upgrade remove purge configure trigproc".split()


def package(rng: Random) -> str:
    """A Debian package name such as `libfoo2-dev`."""
    stem = rng.choice((words.word(rng), "lib" + words.word(rng), words.identifier(rng, "-")))
    stem += rng.choice(("", "", words.digits(rng, 1, 2), "++", f"{rng.randint(1, 9)}.{rng.randint(0, 9)}"))
    tails = ("", "", "", "-dev", "-data", "-common", "-bin", "-doc", "-perl", f"-{words.digits(rng, 1, 2)}")
    return stem + rng.choice(tails) + rng.choice(("", "", "", "t64", f"-{words.word(rng)}"))


def debian_version(rng: Random) -> str:
    """A Debian version: optional epoch, upstream, optional revision (deb-version(7))."""
    epoch = rng.choice(("", "", "", f"{rng.randint(1, 9)}:"))
    upstream = rng.choice((words.dotted(rng), words.dotted(rng), words.digits(rng, 4, 8)))
    upstream += rng.choice((
        "", "", "", "+dfsg", "+ds", f"+dfsg{rng.randint(1, 9)}", "+really1.0",
        f"~{words.word(rng)}{rng.randint(1, 9)}", "+~cs" + words.dotted(rng),
        f"+git{words.digits(rng, 6, 8)}.{words.hexadecimal(rng, 7)}",
        rng.choice("abcdefp") + str(rng.randint(1, 9)),
    ))  # fmt: skip
    revision = rng.choice(("", "-", "-", "-", "-", "-0."))
    if revision:
        revision += str(rng.choice((1, 1, 2, 3, rng.randint(0, 30))))
        revision += rng.choice((
            "", "", "", f"+b{rng.randint(1, 12)}", f"~bpo{rng.randint(9, 13)}+1", ".1",
            f"+deb{rng.randint(9, 14)}u{rng.randint(1, 20)}", f"ubuntu{rng.randint(1, 9)}",
            f"{words.word(rng)}{rng.randint(1, 9)}",
        ))  # fmt: skip
    return epoch + upstream + revision


def write(rng: Random) -> Written:
    """One line: a change of state, or an action with the old and the new version."""
    name, arch, version = package(rng), rng.choice(_ARCHES), debian_version(rng)
    time = f"{words.day(rng)} {words.clock(rng)}"
    action, state = rng.choice(_ACTIONS), ""
    if rng.random() < 0.55:
        action, state = "status", rng.choice(_STATES)
        text = f"{time} status {state} {name}:{arch} {version}"
    elif action in ("install", "upgrade"):
        old = "<none>" if rng.random() < 0.6 else debian_version(rng)
        text = f"{time} {action} {name}:{arch} {old} {version}"
    else:
        text = f"{time} {action} {name}:{arch} {version} <none>"
    fields = {"time": time, "action": action, "state": state, "package": name}
    return text, fields | {"arch": arch, "version": version}


DPKG = Family(
    names=("dpkg", "dpkg.log", "packages", "Debian packages"),
    descriptions=(
        "the package manager of Debian",
        "what dpkg did to a package",
        "a date, an action or status, a package with its architecture and version",
        "package changes: installed, unpacked, configured, removed",
    ),
    write=write,
)
