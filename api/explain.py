"""From pydantic's errors to faults that name the field and the cure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from api.problems import Kind, Problem, invalid
from api.wire.fields import AGENT, BULK_ID, CURSOR, NO_NUL
from api.wire.job_body import LATER, JobBody
from api.wire.problem import Fault

AnyBody = TypeVar("AnyBody", bound=BaseModel)

_TAGS = {"content": ("text", "parts"), "response_format": ("name", "object")}
"""What pydantic adds to a place to say which kind of value it took it for."""

_PATTERNS = {
    NO_NUL: "must not contain the NUL character",
    AGENT: "use letters, digits and . _ : - in parts joined by /, each beginning with a letter or digit",
    BULK_ID: "is not the id of a bulk",
    CURSOR: "is not a next_cursor of this list",
}


def parse(model: type[AnyBody], raw: bytes, at: str = "") -> AnyBody:
    """Read a JSON body; ``at`` stands before the names of fields, such as ``jobs[3]``.

    Raises:
        Problem: 400 for what is not JSON, 422 for what is not such a body.
    """
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise complaint(error, raw, at) from None


def complaint(error: ValidationError, raw: bytes, at: str = "") -> Problem:
    """The problem that answers a body which pydantic refused."""
    details = error.errors(include_url=False)
    if details[0]["type"] == "json_invalid":
        return _not_json(raw, str(details[0]["msg"]).removeprefix("Invalid JSON: "), at)
    return invalid([_fault(detail, at) for detail in details])


def faults(details: Sequence[Mapping[str, Any]]) -> list[Fault]:
    """Faults of a query or a header, from errors whose place begins with ``query`` or the like."""
    return [_fault({**detail, "loc": detail["loc"][1:]}) for detail in details]


def _fault(detail: Mapping[str, Any], at: str = "") -> Fault:
    place = tuple(detail["loc"])
    field = ".".join(part for part in (at, field_name(place)) if part)
    return Fault(field=field or "body", message=_message(detail, place))


def field_name(place: Sequence[int | str]) -> str:
    """``("messages", 0, "content", "text")`` as ``messages[0].content``."""
    name, before = "", None
    for part in place:
        if isinstance(part, int):
            name += f"[{part}]"
        elif part not in _TAGS.get(str(before), ()) and part != "[key]":
            shown = part[:80] if part.isprintable() else ascii(part[:80])[1:-1]
            name += f".{shown}" if name else shown
        before = part
    return name


def _message(detail: Mapping[str, Any], place: tuple[int | str, ...]) -> str:
    kind, name = detail["type"], str(place[-1]) if place else ""
    if kind == "extra_forbidden":
        return _unknown(name, nested=len(place) > 1)
    if kind == "missing":
        return "is required"
    if kind == "string_pattern_mismatch":
        pattern = detail["ctx"]["pattern"]
        return _PATTERNS.get(pattern, f"must match {pattern}")
    if place[:1] == ("response_format",) and kind == "literal_error":
        return "only text so far: json_schema has not landed yet"
    message = str(detail["msg"])
    return message[:1].lower() + message[1:]


def _unknown(name: str, *, nested: bool) -> str:
    if name in LATER and not nested:
        return "has not landed yet: leave it out"
    near = [] if nested else get_close_matches(name, JobBody.model_fields, n=1)
    return f"is not a known field; did you mean {near[0]}?" if near else "is not a known field: leave it out"


def _not_json(raw: bytes, reason: str, at: str) -> Problem:
    """Tell what is no JSON at all from texts with half a surrogate pair, which have a place."""
    where = f"{at}: " if at else ""
    try:
        value = json.loads(raw.decode())
    except UnicodeDecodeError as error:
        return Problem(Kind.MALFORMED_JSON, f"{where}the body is not UTF-8 at byte {error.start}")
    except (ValueError, RecursionError):
        return Problem(Kind.MALFORMED_JSON, f"{where}{reason}")
    broken = [".".join(part for part in (at, field_name(place)) if part) for place in _halves(value, ())]
    if not broken:
        return Problem(Kind.MALFORMED_JSON, f"{where}{reason}")
    message = "holds half of a surrogate pair: send whole Unicode characters"
    return invalid([Fault(field=field or "body", message=message) for field in broken])


def _halves(value: object, place: tuple[int | str, ...]) -> Iterator[tuple[int | str, ...]]:
    if isinstance(value, str) and _is_broken(value):
        yield place
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _halves(item, (*place, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            shown = key.encode("ascii", "backslashreplace").decode()
            if _is_broken(key):
                yield (*place, shown)
            yield from _halves(item, (*place, shown))


def _is_broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
