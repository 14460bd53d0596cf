"""Random messages: the free text that ends most log lines."""

from __future__ import annotations

from random import Random

from ops.pico import words


def quoted(rng: Random) -> str:
    """A short text in quotation marks of some kind."""
    text = rng.choice((words.identifier(rng), words.path(rng), f"{words.word(rng)} {words.word(rng)}"))
    mark = rng.choice(('"', '"', "'", "`"))
    return f"{mark}{text}{mark}"


def pair(rng: Random) -> str:
    """`key=value`, now and then with a quoted value."""
    value = rng.choice((words.digits(rng, 1, 6), words.word(rng), quoted(rng), words.address(rng)))
    return f"{words.identifier(rng, '_')}={value}"


def url(rng: Random) -> str:
    """A web address on a made-up host, or a local one with its port."""
    place = rng.choice((words.host(rng), f"{words.address(rng)}:{words.digits(rng, 2, 5)}"))
    return f"{rng.choice(('http', 'https', 'tcp', 'redis'))}://{place}{words.url_path(rng)}"


def figure(rng: Random) -> str:
    """A number with or without a unit."""
    number = rng.choice((words.digits(rng, 1, 6), f"{words.digits(rng, 1, 3)}.{words.fraction(rng)}"))
    return number + rng.choice(("", "", "", "", "%", " ms", " s", "ms", " kB", " bytes", "MB"))


def dotted_name(rng: Random) -> str:
    """A Python-like dotted name, perhaps called."""
    name = ".".join(words.cased(rng) for _ in range(rng.randint(2, 4)))
    return name + rng.choice(("", "", "()", f"({words.digits(rng, 1, 2)})"))


def aside(rng: Random) -> str:
    """A remark in brackets."""
    inner = " ".join(words.word(rng) for _ in range(rng.randint(1, 3)))
    inner = rng.choice((inner, pair(rng), words.digits(rng, 1, 5), f"{words.word(rng)}: {inner}"))
    return rng.choice((f"({inner})", f"({inner})", f"[{inner}]", "{" + inner + "}", f"<{inner}>"))


_RARE = (quoted, pair, url, figure, dotted_name, aside, words.path, words.address, words.dotted)


def piece(rng: Random) -> str:
    """One word of a message, plain most of the time."""
    draw = rng.random()
    if draw < 0.55:
        return words.word(rng)
    if draw < 0.72:
        return rng.choice(words.SMALL)
    if draw < 0.78:
        return words.cased(rng)
    return rng.choice(_RARE)(rng)


def message(rng: Random, most: int = 12) -> str:
    """One to `most` words, often few, with the punctuation that logs have."""
    parts = [piece(rng) for _ in range(rng.randint(1, rng.choice((most, most, 4))))]
    for position in range(len(parts) - 1):
        if rng.random() < 0.12:
            parts[position] += rng.choice((",", ":", ";", " -", " =", "...", " |", " ->"))
    text = " ".join(parts)
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    return text + rng.choice(("", "", "", ".", "...", "!", ":", f" ({words.digits(rng, 1, 4)})"))
