"""From pydantic's errors to faults that name the field and the cure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from api.problems import MOST_FAULTS, Kind, Problem, invalid
from api.wire.fields import AGENT, BULK_ID, CURSOR, NO_NUL
from api.wire.job_body import LATER, JobBody
from api.wire.problem import Fault

AnyBody = TypeVar("AnyBody", bound=BaseModel)
Place = tuple[int | str, ...]

_TAGS = {"content": ("text", "parts"), "response_format": ("name", "object")}
"""What pydantic adds to a place to say which kind of value it took it for."""

_SHAPES = {
    "model_type": "should be an object",
    "dict_type": "should be an object",
    "list_type": "should be an array",
}
"""What pydantic calls by Python's names."""

_PATTERNS = {
    NO_NUL: "must not contain the NUL character",
    AGENT: "use letters, digits and . _ : - in parts joined by /, each beginning with a letter or digit",
    BULK_ID: "is not the id of a bulk",
    CURSOR: "is not a next_cursor of this list",
}


def parse(model: type[AnyBody], raw: bytes, at: str = "") -> AnyBody:
    """Read a JSON body; ``at`` stands before the names of fields, such as ``line 3``.

    Raises:
        Problem: 400 for what is not JSON, 422 for what is not such a body.
    """
    return check(model, read(raw, at), at)


def read(raw: bytes, at: str = "") -> Any:
    """What a JSON text stands for; raises as :func:`parse`."""
    try:
        return from_json(raw)
    except ValueError as error:
        reason = str(error).replace("recursion limit exceeded", "nested too deeply")
        raise _not_json(raw, reason, at) from None


def check(model: type[AnyBody], value: object, at: str = "") -> AnyBody:
    """A body out of what JSON stood for; raises as :func:`parse`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise invalid([_fault(detail, at, model) for detail in details]) from None


def faults(details: Sequence[Mapping[str, Any]]) -> list[Fault]:
    """Faults of a query or a header, from errors whose place begins with ``query`` or the like."""
    return [_fault({**detail, "loc": detail["loc"][1:]}) for detail in details]


def _fault(detail: Mapping[str, Any], at: str = "", model: type[BaseModel] | None = None) -> Fault:
    place = tuple(detail["loc"])
    field = ".".join(part for part in (at, field_name(place)) if part)
    return Fault(field=field or "body", message=_message(detail, place, model))


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


def _message(detail: Mapping[str, Any], place: Place, model: type[BaseModel] | None) -> str:
    kind, name = detail["type"], str(place[-1]) if place else ""
    if kind == "extra_forbidden":
        return _unknown(name, None if len(place) > 1 else model)
    if kind == "missing":
        return "is required"
    if kind == "string_pattern_mismatch":
        pattern = detail["ctx"]["pattern"]
        return _PATTERNS.get(pattern, f"must match {pattern}")
    if kind in _SHAPES:
        return _SHAPES[kind]
    if place[:1] == ("response_format",) and kind == "literal_error":
        return "only text so far: json_schema has not landed yet"
    message = str(detail["msg"])
    return message[:1].lower() + message[1:]


def _unknown(name: str, model: type[BaseModel] | None) -> str:
    """``model`` is the body that it stands in, if that is the outermost one."""
    if name in LATER and model is JobBody:
        return "has not landed yet: leave it out"
    near = [] if model is None else get_close_matches(name, model.model_fields, n=1)
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
    fields = [field_name(place) for place in islice(_halves(value), MOST_FAULTS)]
    if not fields:
        return Problem(Kind.MALFORMED_JSON, f"{where}{reason}")
    message = "holds half of a surrogate pair: send whole Unicode characters"
    named = [".".join(part for part in (at, field) if part) for field in fields]
    return invalid([Fault(field=field or "body", message=message) for field in named])


def _halves(value: object) -> Iterator[Place]:
    """Where texts are broken; without recursion, for JSON may be nested deeper than calls may be."""
    opened: list[tuple[Place, Iterator[tuple[int | str, object]]]] = [((), iter([("", value)]))]
    while opened:
        place, entries = opened[-1]
        for name, item in entries:
            if _is_broken(name) or _is_broken(item):
                yield (*place, _spelled(name))
            elif isinstance(item, list | dict):
                inside = item.items() if isinstance(item, dict) else enumerate(item)
                opened.append(((*place, _spelled(name)), iter(inside)))
                break
        else:
            opened.pop()


def _spelled(name: int | str) -> int | str:
    return name.encode("ascii", "backslashreplace").decode() if isinstance(name, str) else name


def _is_broken(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
