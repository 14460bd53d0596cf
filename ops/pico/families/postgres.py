"""Lines in the shape of the PostgreSQL server log (`log_line_prefix` of upstream and Debian)."""

from __future__ import annotations

from random import Random

from ops.pico import prose, words
from ops.pico.families.family import Family, Written

_LEVELS = (
    "LOG LOG LOG LOG ERROR ERROR STATEMENT FATAL WARNING DETAIL HINT NOTICE PANIC INFO DEBUG1 CONTEXT".split()
)


def _message(rng: Random) -> str:
    one, two, number = words.identifier(rng, "_"), words.identifier(rng, "_"), words.digits(rng, 1, 5)
    shapes = (
        f'relation "{one}" does not exist at character {number}',
        f'column "{one}" of relation "{two}" already exists',
        f'duplicate key value violates unique constraint "{one}"',
        f"Key ({one})=({words.word(rng)}) already exists.",
        f"{rng.choice(('SELECT', 'select'))} {one}, {two} FROM {words.word(rng)} WHERE {one} = {number};",
        f"INSERT INTO {one} ({two}) VALUES ('{words.word(rng)}', {number})",  # noqa: S608 - text, never run
        (
            f"checkpoint complete: wrote {number} buffers "
            f"({words.digits(rng, 1, 2)}.{words.fraction(rng, 1)}%); "
            f"write={words.digits(rng, 1, 2)}.{words.fraction(rng)} s, sync=0.{words.fraction(rng)} s"
        ),
        f"duration: {number}.{words.fraction(rng)} ms  statement: {prose.message(rng, 5)}",
        f'listening on {rng.choice(("IPv4", "IPv6"))} address "{words.address(rng)}", port {number}',
        f'listening on Unix socket "{words.path(rng)}"',
        f'invalid input syntax for type {words.word(rng)}: "{words.word(rng)}" at character {number}',
    )
    return rng.choice(shapes) if rng.random() < 0.35 else prose.message(rng)


def write(rng: Random) -> Written:
    """One line: time with milliseconds and zone, process number, perhaps user@database, severity."""
    zone = rng.choice(("UTC", "UTC", "UTC", "CET", "GMT", "EST", "+03"))
    fraction = rng.choice(("", f".{words.fraction(rng)}", f".{words.fraction(rng)}"))
    fields = {"time": f"{words.day(rng)} {words.clock(rng)}{fraction} {zone}"}
    fields["pid"] = words.digits(rng, 1, 6)
    user = f"{words.identifier(rng, '_')}@{words.identifier(rng, '_')} " if rng.random() < 0.4 else ""
    fields |= {"level": rng.choice(_LEVELS), "message": _message(rng)}
    return f"{fields['time']} [{fields['pid']}] {user}{fields['level']}:  {fields['message']}", fields


POSTGRES = Family(
    names=("postgres", "PostgreSQL", "database", "postgresql.log"),
    descriptions=(
        "the log of the database server",
        "a time with its zone, a process number in brackets, a severity, a message",
        "PostgreSQL: statements, errors, checkpoints",
    ),
    write=write,
)
