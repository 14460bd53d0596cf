"""The page of all settings: type, limits, built-in value, meaning and environment variable of each."""

from __future__ import annotations

from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from config import names
from config.settings import Settings
from ops import settings_text
from ops.pages.markdown import code, table

_INTRODUCTION = """\
# Configuration

One settings object is read once, when a process starts. Where a value comes from, the strongest first:

1. the command line (`--data-dir`, `--port`, `--llm`, `--allow-remote`),
2. the environment: `PENSTOCK_`, then the setting in capitals with `__` between levels, such as
   `PENSTOCK_SERVER__PORT=9000`,
3. `.env` in the project's folder, with the same names (`.env.example` lists all of them),
4. `config/{environment}.toml`, where `PENSTOCK_ENVIRONMENT` names the environment,
5. `config/default.toml`,
6. the built-in value.

A name that no setting has is refused, whatever its source, with the nearest one that exists. An empty
value counts as unset. A whole section can be written as one JSON object
(`PENSTOCK_LLMS='{"big": {"path": "…"}}'`), and a list as words with commas between them.

Prices stand apart, in `config/prices.toml`: money for a million tokens of each kind (`prompt`,
`cached`, `completion`), for each LLM by its alias, as decimal strings.

Settings that are not shown with a built-in value depend on the machine, or are unset."""

_WORDS = {int: "integer", float: "number", str: "text", bool: "true or false"}
_LIMITS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "pattern": "matching `{}`"}


def page() -> str:
    """All settings, a section a table."""
    lines = [_INTRODUCTION, "", "## General", "", *_rows((), Settings)]
    for name, section, note in settings_text.sections():
        path = tuple(names.ANY_ALIAS if part == "pico" else part for part in name.split("."))
        lines += [f"## {'.'.join(path)}".replace("<", "&lt;"), "", note, "", *_rows(path, section)]
    return "\n".join(lines)


def _rows(above: names.Path, section: type[Any]) -> list[str]:
    found = []
    for name, field in settings_text.values(section):
        path = (*above, name)
        value = settings_text.built_in(field, path)
        shown = "" if value is None else settings_text.as_toml(value)
        meaning = f"{field.description}<br>`{names.variable(path)}`"
        found.append((code(".".join(path)), _type(field), code(shown), meaning))
    return table(("setting", "type", "built-in", "meaning and variable"), found)


def _type(field: FieldInfo) -> str:
    """The type in words, with the limits of the value."""
    limits = [
        words.format(limit)
        for item in field.metadata
        for name, words in _LIMITS.items()
        if (limit := getattr(item, name, None)) is not None
    ]
    return ", ".join([_kind(field.annotation), *limits])


def _kind(annotation: Any) -> str:
    inner = [part for part in get_args(annotation) if part is not NoneType]
    if get_origin(annotation) is Literal:
        return " or ".join(code(value) for value in inner)
    if get_origin(annotation) is tuple:
        return "list of texts"
    if inner:
        return _kind(inner[0])
    return _WORDS.get(annotation, "path" if annotation.__name__ == "Path" else "text, secret")
