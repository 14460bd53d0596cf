"""Where settings come from, the strongest first, and what is said when one is wrong.

Command line, environment, ``.env``, ``config/{environment}.toml``,
``config/default.toml``, the values in :mod:`config.settings`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from config import names
from config.settings import Settings

PROJECT = Path(__file__).resolve().parent.parent


class ConfigurationError(Exception):
    """Settings that cannot be used; the message names each, its source and the cure."""


@dataclass(frozen=True)
class Layer:
    """One source: its title, its values as nested tables, and how it spells a setting's name."""

    title: str
    values: Mapping[str, Any]
    spell: Callable[[names.Path], str] = ".".join

    def has(self, path: Sequence[str | int]) -> bool:
        """Whether this source gives a value to ``path`` or to something below it."""
        table: Any = self.values
        for part in path:
            if not isinstance(table, Mapping) or part not in table:
                return False
            table = table[part]
        return True


def load(
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    root: Path = PROJECT,
) -> Settings:
    """Read every source once and return the settings in force.

    ``overrides`` holds what the command line gave, as nested tables or by dotted
    names. None and the empty string count as not given, here and in every source. ``environ`` replaces the
    process's environment. ``root`` holds ``.env`` and ``config/``.

    Raises ConfigurationError for a name that no setting has, a value that will
    not do, settings that contradict each other, and files that cannot be read.
    """
    above = [
        Layer("command line", _given(_nested(overrides or {}))),
        _from_variables("environment", os.environ if environ is None else environ),
        _from_variables(".env", _dotenv(root / ".env")),
    ]
    default = _from_toml(root, "default")
    layers = [*above, *_chosen(root, [*above, default]), default]
    if problems := [line for layer in layers for line in _unknown(layer)]:
        raise ConfigurationError("\n".join(problems))
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged = _merge(merged, layer.values)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        lines = [_explain(detail, layers) for detail in error.errors()]
        raise ConfigurationError("\n".join(lines)) from None


def _nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides as nested tables; only the outermost names may be dotted, an LLM's alias keeps its dots."""
    nested: dict[str, Any] = {}
    for name, value in overrides.items():
        *above, last = name.split(".")
        table = {last: value}
        for part in reversed(above):
            table = {part: table}
        nested = _merge(nested, table)
    return nested


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without those that were left empty."""
    return {
        name: _given(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if value not in (None, "")
    }


class _Declared(Settings, BaseSettings):
    """The settings as pydantic-settings wants them declared."""

    model_config = SettingsConfigDict(
        env_prefix=names.PREFIX, env_nested_delimiter=names.LEVEL, env_ignore_empty=True
    )


class _Variables(EnvSettingsSource):
    """Settings from a mapping of variables instead of the process's own."""

    def __init__(self, variables: Mapping[str, str | None]) -> None:
        self._variables = variables
        super().__init__(_Declared)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._variables.items()}


def _from_variables(title: str, variables: Mapping[str, str | None]) -> Layer:
    """The layer of all variables with our prefix, unknown ones among them."""
    ours = {name: value for name, value in variables.items() if name.startswith(names.PREFIX) and value}
    try:
        values = _Variables(ours)()
    except SettingsError as error:
        raise ConfigurationError(f"{title}: {error}; a whole section is written as a JSON object") from error
    for name, value in ours.items():
        path = name.removeprefix(names.PREFIX).lower().split(names.LEVEL)
        if path[0] not in Settings.model_fields:
            values = _merge(values, _nested({".".join(path): value}))
    return Layer(title, values, names.variable)


def _dotenv(file: Path) -> dict[str, str | None]:
    return dotenv_values(file, interpolate=False) if file.is_file() else {}


def _from_toml(root: Path, environment: str) -> Layer:
    file = root / "config" / f"{environment}.toml"
    title = f"config/{environment}.toml"
    if not file.is_file():
        return Layer(title, {})
    try:
        return Layer(title, _given(tomllib.loads(file.read_text(encoding="utf-8"))))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{title} is not TOML: {error}") from error


def _chosen(root: Path, layers: Sequence[Layer]) -> list[Layer]:
    """The layer of the environment that the others name, unless that is the default one."""
    environment = next(
        (layer.values["environment"] for layer in layers if layer.has(["environment"])), "default"
    )
    if environment == "default" or not re.fullmatch("[a-z0-9-]+", str(environment)):
        return []  # what is not a name is refused with the other values
    layer = _from_toml(root, environment)
    if not (root / layer.title).is_file():
        raise ConfigurationError(
            f"environment is {environment}, but there is no {layer.title}: write it, or unset the environment"
        )
    return [layer]


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of ``below`` with those of ``above`` laid over them, at every level."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            merged[name] = _merge(old, value)
        else:
            merged[name] = value
    return merged


def _unknown(layer: Layer) -> Iterator[str]:
    for path in names.unknown(layer.values):
        near = names.nearest(path)
        advice = f"; did you mean {layer.spell(near)}?" if near else ""
        yield f"{layer.spell(path)} ({layer.title}): unknown setting{advice}"


def _explain(detail: ErrorDetails, layers: Sequence[Layer]) -> str:
    """One line for one error of pydantic: name and source of the setting, what is wrong, what it means."""
    if detail["type"] == "value_error":
        return detail["msg"].removeprefix("Value error, ")  # ours: it names the settings and the cure
    path = detail["loc"]
    while path and not any(layer.has(path) for layer in layers):
        path = path[:-1]
    layer = next(layer for layer in layers if layer.has(path))
    given = f", not {detail['input']!r}" if isinstance(detail["input"], str | int | float) else ""
    meaning = names.meaning(detail["loc"])
    spelled = layer.spell(tuple(str(part) for part in path))
    return f"{spelled} ({layer.title}): {detail['msg']}{given}. {meaning}".rstrip()
