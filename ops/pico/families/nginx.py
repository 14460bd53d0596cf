"""Lines in the `combined` access log format of nginx and Apache (ngx_http_log_module)."""

from __future__ import annotations

from random import Random

from ops.pico import prose, words
from ops.pico.families.family import Family, Written

METHODS = "GET GET GET GET POST HEAD PUT DELETE OPTIONS PATCH".split()
STATUSES = "200 200 200 200 201 204 206 301 302 304 400 401 403 404 404 405 413 422 429 500 502 503".split()


def stamp(rng: Random) -> str:
    """A time such as `20/Nov/2026:18:20:11 +0000`."""
    date = f"{rng.randint(1, 31):02}/{rng.choice(words.MONTHS)}/{rng.randint(1998, 2039)}"
    offset = rng.choice(("+0000", "+0000", f"{rng.choice('+-')}{rng.randint(0, 12):02}00"))
    return f"{date}:{words.clock(rng)} {offset}"


def agent(rng: Random) -> str:
    """What a client calls itself: a plain tool or a browser with its engines."""
    tool = rng.choice(("curl", "Wget", "python-requests", words.cased(rng), words.cased(rng)))
    tool = f"{tool}/{words.dotted(rng)}"
    draw = rng.random()
    if draw < 0.4:
        return tool
    if draw < 0.55:
        system = rng.choice(("linux-gnu", words.word(rng), f"+{prose.url(rng)}"))
        return f"{tool} ({system})"
    system = rng.choice(("X11; Linux x86_64", "Windows NT 10.0; Win64; x64", "compatible",
                         "Macintosh; Intel Mac OS X 10_15_7", prose.message(rng, 3)))  # fmt: skip
    engine = rng.choice(
        (
            "AppleWebKit/537.36 (KHTML, like Gecko) ",
            "Gecko/20100101 ",
            "",
            f"{words.cased(rng)}/{words.dotted(rng)} ",
        )
    )
    return f"Mozilla/5.0 ({system}) {engine}{tool}"


def write(rng: Random) -> Written:
    """One line of an access log."""
    fields = {
        "client": words.address(rng),
        "time": stamp(rng),
        "method": rng.choice(METHODS),
        "path": words.url_path(rng),
        "status": rng.choice(STATUSES),
        "size": words.digits(rng, 1, 7),
        "agent": agent(rng) if rng.random() < 0.93 else "-",
    }
    user = rng.choice(("-", "-", "-", "-", words.word(rng)))
    protocol = rng.choice(("HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0"))
    referrer = rng.choice(("-", "-", prose.url(rng)))
    text = '{client} - {user} [{time}] "{method} {path} {protocol}" {status} {size} "{referrer}" "{agent}"'
    return text.format(**fields, user=user, protocol=protocol, referrer=referrer), fields


NGINX = Family(
    names=("nginx", "access", "web access", "access log", "combined"),
    descriptions=(
        "requests to the web server, combined format",
        "a client, a time in brackets, the request, its status and size, the user agent",
        "the access log of nginx or Apache",
    ),
    write=write,
)
