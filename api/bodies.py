"""Bodies as they came: read once, their type checked, parsed by the route in its thread."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request

from api.problems import Kind, Problem, invalid
from api.wire.problem import Fault

JSON = "application/json"
JSON_LINES = ("application/x-ndjson", "application/jsonl")

_KEY_LENGTH = 255


async def _json(request: Request) -> bytes:
    _media_type(request, (JSON,))
    return await request.body()


async def _json_or_lines(request: Request) -> tuple[str, bytes]:
    kind = _media_type(request, (JSON, *JSON_LINES))
    return kind, await request.body()


def _media_type(request: Request, taken: tuple[str, ...]) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in taken:
        raise Problem(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            f"send Content-Type: {' or '.join(taken)}, not {kind[:80] or 'none'}",
            headers={"Accept-Post": ", ".join(taken)},
        )
    return kind


async def _idempotency_key(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Resending the same body under the same key gives the first answer again.",
            min_length=1,
            max_length=_KEY_LENGTH,
            pattern=r"^[!-~]+$",
        ),
    ] = None,
) -> str | None:
    if len(request.headers.getlist("Idempotency-Key")) > (key is not None):  # an empty one reads as None
        raise invalid(
            [Fault(field="Idempotency-Key", message="give one key, of 1 to 255 visible characters")]
        )
    return key


JsonBody = Annotated[bytes, Depends(_json)]
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
