"""Pages by keyset: opaque cursors and the header Link."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from api.problems import invalid
from api.wire.problem import Fault

Row = TypeVar("Row")

VERSION = "1"
USUAL = 50
"""Rows of a page, unless the client says."""


def cursor(key: str | int) -> str:
    """A cursor that goes on behind the row with this key."""
    return base64.urlsafe_b64encode(f"{VERSION}:{key}".encode()).decode().rstrip("=")


def key_of(given: str) -> str:
    """The key behind a cursor.

    Raises:
        Problem: 422, it is not one of ours.
    """
    try:
        text = base64.b64decode(given + "=" * (-len(given) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    version, _, key = text.partition(":")
    if version != VERSION or not key or "\0" in key or cursor(key) != given:
        raise invalid([Fault(field="cursor", message="is not a next_cursor of this list")])
    return key


def number_of(given: str) -> int:
    """The row number behind a cursor; errors as in :func:`key_of`."""
    key = key_of(given)
    if not (key.isascii() and key.isdigit() and len(key) <= 18):
        raise invalid([Fault(field="cursor", message="is not a next_cursor of this list")])
    return int(key)


def rows(limit: int, most: int) -> int:
    """The number of rows to answer.

    Raises:
        Problem: 422, more than a page may have.
    """
    if limit > most:
        raise invalid([Fault(field="limit", message=f"at most {most} rows are answered at once")])
    return limit


def cut(found: list[Row], limit: int, key: Callable[[Row], str | int]) -> tuple[list[Row], str | None]:
    """The rows to show of ``limit`` + 1 that were asked for, and the cursor behind them if more follow."""
    shown = found[:limit]
    return shown, cursor(key(shown[-1])) if len(found) > limit else None


def link(request: Request, next_cursor: str | None) -> dict[str, str]:
    """The header that leads to the next page, if there is one."""
    if next_cursor is None:
        return {}
    url = request.url.include_query_params(cursor=next_cursor)
    return {"Link": f'<{url.path}?{url.query}>; rel="next"'}
