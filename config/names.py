"""The names of all settings: which exist, which is nearest to a wrong one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from config.settings import Section, Settings

Path = tuple[str, ...]

PREFIX = "PENSTOCK_"
LEVEL = "__"
ANY_ALIAS = "<alias>"
_LIKENESS = 0.6  # below this a suggestion confuses more than it helps


def known(section: type[Section] = Settings, above: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Every setting with its declaration, in the order of the file; an LLM's alias is ``<alias>``."""
    for name, field in section.model_fields.items():
        path = (*above, name)
        if (inner := section_of(field)) is None:
            yield path, field
        else:
            yield from known(inner, (*path, ANY_ALIAS) if is_table_of_sections(field) else path)


def section_of(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, directly or by alias; None for a plain value."""
    inner = get_args(field.annotation)[1] if is_table_of_sections(field) else field.annotation
    return inner if isinstance(inner, type) and issubclass(inner, Section) else None


def is_table_of_sections(field: FieldInfo) -> bool:
    """Whether the field maps aliases to sections."""
    return get_origin(field.annotation) is dict


def unknown(values: Mapping[str, Any], section: type[Section] = Settings, above: Path = ()) -> Iterator[Path]:
    """The names in ``values`` that no setting has."""
    for name, value in values.items():
        path = (*above, name)
        field = section.model_fields.get(name)
        if field is None:
            yield from _leaves(value, path)
        elif (inner := section_of(field)) is not None and isinstance(value, Mapping):
            tables = value.items() if is_table_of_sections(field) else [("", value)]
            for alias, table in tables:
                if isinstance(table, Mapping):
                    yield from unknown(table, inner, (*path, alias) if alias else path)


def _leaves(value: object, path: Path) -> Iterator[Path]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    else:
        yield path


def meaning(location: Iterable[str | int]) -> str:
    """What the setting at pydantic's ``location`` means, or nothing."""
    path = tuple(str(part) for part in location)
    for candidate, field in known():
        alike = (wanted in (part, ANY_ALIAS) for part, wanted in zip(path, candidate, strict=False))
        if len(path) >= len(candidate) and all(alike):
            return field.description or ""
    return ""


def nearest(path: Path) -> Path | None:
    """The known setting that looks most like ``path``, if any does."""
    wanted = ".".join(path)

    def likeness(candidate: Path) -> float:
        dotted = SequenceMatcher(None, wanted, ".".join(candidate)).ratio()
        return max(dotted, SequenceMatcher(None, path[-1], candidate[-1]).ratio() - 0.05 * len(candidate))

    best = max((known_path for known_path, _ in known()), key=likeness)
    if likeness(best) < _LIKENESS:
        return None
    return tuple(path[1] if part == ANY_ALIAS and len(path) > 1 else part for part in best)


def variable(path: Path) -> str:
    """The environment variable of a setting."""
    return PREFIX + LEVEL.join(path).upper()
