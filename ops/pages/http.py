"""The page of the HTTP interface, from the OpenAPI document of the API itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from config.settings import Settings
from models.database import Database
from ops.pages.markdown import anchor, code, prose, table
from ops.pages.schema import Schema, fields, type_of, without_null

_INTRODUCTION = """\
# HTTP reference

Made from the OpenAPI document, which a running service answers at `/openapi.json`. What all requests have
in common (keys, errors, waiting, idempotency, pages) stands in [The HTTP interface](http.md). Every route
below `/v1` may also answer with the problems 401, 421, 422, 500 and 503; they are not repeated below.
"""
_OFTEN = {"401", "421", "422", "500", "503"}


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document, of an application whose database nobody ever asks."""
    from api.app import create_app

    database = Database.connect("sqlite:////dev/null")
    try:
        return create_app(Settings(), database).openapi()
    finally:
        database.close()


def page() -> str:
    """All routes by their tag, then all bodies."""
    found = document()
    lines = [_INTRODUCTION]
    for tag, routes in _by_tag(found).items():
        lines += [f"## {tag.capitalize()}", ""]
        for method, path, operation in routes:
            lines += _route(method, path, operation)
    lines += ["## Bodies", ""]
    for name, schema in sorted(found["components"]["schemas"].items()):
        lines += _body(name, schema)
    return "\n".join(lines)


def problems() -> str:
    """The kinds of problems that there are."""
    from api.problems import Kind

    rows = [(str(kind.status), code(kind.type), kind.title) for kind in Kind]
    return "\n".join(table(("status", "type", "title"), rows))


def _by_tag(found: dict[str, Any]) -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
    tagged: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            tag = next(iter(operation.get("tags", ())), "other")
            tagged.setdefault(tag, []).append((method.upper(), path, operation))
    return tagged


def _route(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    name = f"{method} {path}"
    lines = [f"### `{name}` {{ #{anchor(name)} }}", "", prose(operation.get("description")), ""]
    lines += table(("parameter", "in", "type", "meaning"), _parameters(operation))
    lines += _request(operation.get("requestBody"))
    return lines + table(("answer", "body", "meaning"), _answers(operation["responses"]))


def _parameters(operation: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for parameter in operation.get("parameters", ()):
        meaning = prose(parameter.get("description") or parameter["schema"].get("description"))
        yield code(parameter["name"]), parameter["in"], type_of(without_null(parameter["schema"])), meaning


def _request(body: dict[str, Any] | None) -> list[str]:
    if body is None:
        return []
    kinds = [f"{code(kind)}: {_content(inner)}" for kind, inner in body["content"].items()]
    return ["Body: " + "; ".join(kinds) + ".", ""]


def _content(inner: dict[str, Any]) -> str:
    schema: Schema = inner.get("schema", {})
    return prose(schema["description"]).rstrip(".") if "description" in schema else type_of(schema)


def _answers(responses: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for status, response in responses.items():
        if status in _OFTEN:
            continue
        bodies = [_content(inner) for inner in response.get("content", {}).values()]
        headers = ", ".join(map(code, response.get("headers", {})))
        meaning = prose(response.get("description")) + (f" Headers: {headers}." if headers else "")
        yield status, "; ".join(body for body in bodies if body), meaning


def _body(name: str, schema: Schema) -> list[str]:
    lines = [f"### {name} {{ #{anchor(name)} }}", "", prose(schema.get("description")), ""]
    lines += _fields(list(fields(schema)))
    for example in schema.get("examples", ())[:1]:
        lines += ["```json", json.dumps(example, ensure_ascii=False, indent=2), "```", ""]
    return lines


def _fields(rows: list[tuple[str, str, str, str]]) -> list[str]:
    """A table of fields; what is always there needs no column that says so."""
    if all(given == "required" for _, _, given, _ in rows):
        return table(("field", "type", "meaning"), [(name, kind, meaning) for name, kind, _, meaning in rows])
    return table(("field", "type", "if left out", "meaning"), rows)
