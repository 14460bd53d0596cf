"""Lines in the shape of `git log --oneline`, with or without a decoration (git-log(1))."""

from __future__ import annotations

from random import Random

from ops.pico import prose, words
from ops.pico.families.family import Family, Written


def _scope(rng: Random) -> str:
    return rng.choice((
        words.identifier(rng), words.cased(rng), f"{words.word(rng)}/{words.word(rng)}.{rng.choice('ch')}",
        words.path(rng)[1:], f"{rng.choice(('fix', 'feat', 'docs', 'test'))}({words.word(rng)})",
    ))  # fmt: skip


def _subject(rng: Random) -> str:
    verb = rng.choice(
        (words.cased(rng), "Fix", "Add", "Remove", "Update", "fix", "add", "use", "Merge branch")
    )
    text = f"{verb} {prose.message(rng, 8)}"
    if rng.random() < 0.45:
        text = f"{_scope(rng)}: {text}"
    if rng.random() < 0.06:
        text = f'Revert "{text}"'
    return text + (f" (#{words.digits(rng, 1, 5)})" if rng.random() < 0.15 else "")


def write(rng: Random) -> Written:
    """One line: abbreviated commit, subject, and after some a tag."""
    commit, subject, tag = words.hexadecimal(rng, rng.randint(7, 10)), _subject(rng), ""
    text = f"{commit} {subject}"
    if rng.random() < 0.25:
        tag = rng.choice(("v", "v", "", f"{words.word(rng)}-")) + words.dotted(rng)
        text += f" (tag: {tag})"
    return text, {"commit": commit, "subject": subject, "tag": tag}


GIT = Family(
    names=("git", "git log", "commits", "history"),
    descriptions=(
        "one commit a line",
        "a short hash, the subject of the commit, perhaps a tag in brackets",
        "the history of a repository, as git log --oneline prints it",
    ),
    write=write,
)
