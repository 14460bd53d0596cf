"""Lines in formats that Python's logging commonly has (dramatiq, scrapy, Alembic, celery, the default)."""

from __future__ import annotations

from random import Random

from ops.pico import prose, words
from ops.pico.families.family import Family, Written

_LEVELS = "INFO INFO INFO DEBUG DEBUG WARNING ERROR CRITICAL".split()


def _stamp(rng: Random) -> str:
    fraction = rng.choice(
        ("", f",{words.fraction(rng)}", f",{words.fraction(rng)}", f".{words.fraction(rng)}")
    )
    return f"{words.day(rng)} {words.clock(rng)}{fraction}"


def _logger(rng: Random) -> str:
    parts = [rng.choice((words.word(rng), words.identifier(rng, "_"))) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.4:
        parts.append(rng.choice(("", "", "_")) + words.cased(rng).capitalize() + words.word(rng).capitalize())
    call = f"({rng.choice((str(rng.randint(0, 9)), words.identifier(rng, '.')))})"
    return ".".join(parts) + (call if rng.random() < 0.12 else "")


def _message(rng: Random) -> str:
    name, number = words.cased(rng), words.digits(rng, 1, 5)
    shapes = (
        f"{name} {words.dotted(rng)} started ({words.word(rng)}: {words.word(rng)})",
        (
            f"Running {rng.choice(('upgrade', 'downgrade'))} {rng.choice(('', words.hexadecimal(rng, 12)))} "
            f"-> {words.hexadecimal(rng, 12)}, {prose.message(rng, 4)}"
        ),
        f"{name} '{words.dotted(rng)}' is {prose.message(rng, 3)}",
        "{" + f"'{words.word(rng)}': {number}, '{words.word(rng)}': '{words.word(rng)}'" + "}",
        f"Crawled ({number}) <GET {prose.url(rng)}> (referer: None)",
        f"Detected added {words.word(rng)} {words.identifier(rng, '_')!r} on '{words.word(rng)}'",
        f"Received message {words.identifier(rng, '_')}({number}) with id '{words.uuid(rng)}'.",
    )
    return rng.choice(shapes) if rng.random() < 0.35 else prose.message(rng)


def write(rng: Random) -> Written:
    """One line in one of six layouts; where a layout has no time, the field is empty."""
    stamp, level, logger, text = _stamp(rng), rng.choice(_LEVELS), _logger(rng), _message(rng)
    pid = words.digits(rng, 1, 6)
    thread = rng.choice(("MainThread", f"Thread-{rng.randint(1, 40)}", words.cased(rng)))
    process = rng.choice(("MainProcess", f"ForkPoolWorker-{rng.randint(1, 16)}"))
    line, timed = rng.choice((
        (f"[{stamp}] [PID {pid}] [{thread}] [{logger}] [{level}] {text}", True),
        (f"{stamp} [{logger}] {level}: {text}", True),
        (f"{level:<5} [{logger}] {text}", False),
        (f"[{stamp}: {level}/{process}] {logger}: {text}", True),
        (f"{stamp} - {logger} - {level} - {text}", True),
        (f"{level}:{logger}:{text}", False),
    ))  # fmt: skip
    fields = {"time": stamp if timed else "", "level": level, "logger": logger, "message": text}
    return line, fields


PYTHON = Family(
    names=("python", "Python logging", "application"),
    descriptions=(
        "Python programs and their loggers",
        "a time, a level, the name of a logger, a message, in any usual layout",
        "records of the logging module",
    ),
    write=write,
)
