"""JSON Schema as words of a page: types, limits, and the fields of an object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ops.pages.markdown import anchor, code, prose

Schema = dict[str, Any]

_BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
_SIZES = (("minLength", "maxLength", "characters"), ("minItems", "maxItems", "items"))
_FORMATS = {"date-time": "time"}
_NAMES = {"boolean": "true or false", "string": "text", "object": "object", "null": "null"}


def name_of(schema: Schema) -> str:
    """The name of the schema that a reference points at."""
    return str(schema["$ref"]).rsplit("/", 1)[-1]


def type_of(schema: Schema) -> str:
    """A type in words, references as links within the page."""
    if "$ref" in schema:
        name = name_of(schema)
        return f"[{name}](#{anchor(name)})"
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "enum" in schema:
        return " or ".join(code(json.dumps(value)) for value in schema["enum"])
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(type_of(one) for one in schema[several]))
    return ", ".join([_plain(schema), *limits(schema)])


def _plain(schema: Schema) -> str:
    kind = str(schema.get("type", "any value"))
    if kind == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    inner = schema.get("additionalProperties")
    if kind == "object" and isinstance(inner, dict):
        return f"object of {type_of(inner)}"
    return _FORMATS.get(str(schema.get("format")), _NAMES.get(kind, kind))


def limits(schema: Schema) -> list[str]:
    """What a value must keep to."""
    found = [words.format(_number(schema[name])) for name, words in _BOUNDS.items() if name in schema]
    for least, most, what in _SIZES:
        if most in schema:
            found.append(f"{schema.get(least, 0)} to {_number(schema[most])} {what}")
        elif schema.get(least) == 1:
            found.append("not empty")
        elif least in schema:
            found.append(f"at least {_number(schema[least])} {what}")
    return found


def without_null(schema: Schema) -> Schema:
    """The schema of a parameter that may be left out, as it is when it is given."""
    several = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return several[0] if len(several) == 1 else schema


def _number(value: float) -> str:
    return f"2^{value.bit_length() - 1}" if value >= 2**53 and isinstance(value, int) else f"{value:,}"


def fields(schema: Schema) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, value where none is given, and meaning of each field of an object."""
    required = set(schema.get("required", ()))
    for name, inner in schema.get("properties", {}).items():
        default = inner.get("default")
        given = "" if default is None else code(json.dumps(default))
        shown = inner if name in required else without_null(inner)
        yield code(name), type_of(shown), "required" if name in required else given, _meaning(inner)


def _meaning(schema: Schema) -> str:
    inner = without_null(schema)
    return prose(schema.get("description") or inner.get("description"))
