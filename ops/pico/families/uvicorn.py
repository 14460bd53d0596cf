"""Lines in the shape of uvicorn's access log, as it prints them by default."""

from __future__ import annotations

from random import Random

from ops.pico import words
from ops.pico.families.family import Family, Written
from ops.pico.families.nginx import METHODS

_REASONS = {
    "200": "OK", "201": "Created", "202": "Accepted", "204": "No Content", "206": "Partial Content",
    "301": "Moved Permanently", "302": "Found", "303": "See Other", "304": "Not Modified",
    "307": "Temporary Redirect", "400": "Bad Request", "401": "Unauthorized", "403": "Forbidden",
    "404": "Not Found", "405": "Method Not Allowed", "409": "Conflict", "410": "Gone",
    "413": "Request Entity Too Large", "418": "I'm a Teapot", "422": "Unprocessable Entity",
    "429": "Too Many Requests", "500": "Internal Server Error", "502": "Bad Gateway",
    "503": "Service Unavailable",
}  # fmt: skip


def write(rng: Random) -> Written:
    """One line: level, client, request and status with its reason."""
    status, reason = rng.choice(list(_REASONS.items()))
    if rng.random() < 0.3:
        status, reason = "200", "OK"
    if rng.random() < 0.1:
        reason = words.cased(rng)
    fields = {
        "level": rng.choice(("INFO", "INFO", "INFO", "INFO", "WARNING", "DEBUG")),
        "client": f"{words.address(rng)}:{words.digits(rng, 2, 5)}",
        "method": rng.choice(METHODS),
        "path": words.url_path(rng),
        "status": status,
    }
    head = f"{fields['level']}:".ljust(10) + fields["client"]
    protocol = rng.choice(("HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2"))
    return f'{head} - "{fields["method"]} {fields["path"]} {protocol}" {status} {reason}', fields


UVICORN = Family(
    names=("uvicorn", "uvicorn access", "api requests"),
    descriptions=(
        "requests to a Python web application",
        "a level, a client with its port, the request and its status",
        "the access lines of the ASGI server uvicorn",
    ),
    write=write,
)
