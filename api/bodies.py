"""Bodies as they came: read once, their type checked, parsed by the route in its thread."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Request

from api.problems import Kind, Problem, invalid
from api.wire.problem import Fault

JSON = "application/json"
JSON_LINES = ("application/x-ndjson", "application/jsonl")

KEY_HEADER = "Idempotency-Key"
KEY_LENGTH = 255
KEY_PATTERN = "^[!-~]+$"


async def _json(request: Request) -> bytes:
    _media_type(request, (JSON,))
    return await request.body()


async def _json_or_nothing(request: Request) -> bytes:
    if not (await request.body()).strip():
        return b"{}"
    return await _json(request)


async def _json_or_lines(request: Request) -> tuple[str, bytes]:
    kind = _media_type(request, (JSON, *JSON_LINES))
    return kind, await request.body()


def _media_type(request: Request, taken: tuple[str, ...]) -> str:
    kind, *parameters = request.headers.get("content-type", "").lower().split(";")
    if (kind := kind.strip()) not in taken:
        raise Problem(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            f"send Content-Type: {' or '.join(taken)}, not {kind[:80] or 'none'}",
            headers={"Accept-Post": ", ".join(taken)},
        )
    for name, _, value in (parameter.partition("=") for parameter in parameters):
        if name.strip() == "charset" and (charset := value.strip(' "')) not in ("utf-8", "utf8"):
            raise Problem(Kind.UNSUPPORTED_MEDIA_TYPE, f"send UTF-8, not {charset[:80]}")
    coding = request.headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise Problem(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            f"send the body as it is, without Content-Encoding: {coding[:80]}",
            headers={"Accept-Encoding": "identity"},
        )
    return kind


async def _idempotency_key(request: Request) -> str | None:
    """Read without FastAPI's parameters, which take longer than all else that is done with the header."""
    given = request.headers.getlist(KEY_HEADER)
    if not given:
        return None
    if len(given) > 1 or not re.fullmatch(KEY_PATTERN, given[0]) or len(given[0]) > KEY_LENGTH:
        wanted = f"give one key, of 1 to {KEY_LENGTH} visible ASCII characters"
        raise invalid([Fault(field=KEY_HEADER, message=wanted)])
    return given[0]


JsonBody = Annotated[bytes, Depends(_json)]
MaybeJson = Annotated[bytes, Depends(_json_or_nothing)]
"""A body that may be left out: ``{}`` then."""

JsonOrLines = Annotated[tuple[str, bytes], Depends(_json_or_lines)]
IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]


def no_body(raw: bytes) -> None:
    """Refuse a body where none means anything; ``{}`` passes.

    Raises:
        Problem: 422.
    """
    if raw.strip() not in (b"", b"{}"):
        raise invalid([Fault(field="body", message="this request takes no body: leave it out")])


async def _raw(request: Request) -> bytes:
    return await request.body()


NoBody = Annotated[bytes, Depends(_raw)]
