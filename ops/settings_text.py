"""The settings as files for people: ``config/default.toml`` and ``.env.example``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from config import names
from config.settings import Section, Settings

_GENERATED = "Generated from config/settings.py by `python -m ops.docs_build`"


def default_toml() -> str:
    """Every setting with its built-in value and meaning, as TOML."""
    lines = [
        f"# {_GENERATED}; a test keeps it in step.",
        "# To change a value for one machine, use .env, the environment or the command line;",
        "# for a kind of machine, write config/<name>.toml and set PENSTOCK_ENVIRONMENT=<name>.",
    ]
    lines += _toml_values("", Settings)
    for name, section, note in sections():
        lines += ["", f"[{name}] # {note}", *_toml_values(name, section)]
    return "\n".join(lines) + "\n"


def env_example() -> str:
    """Every setting as a commented line for ``.env``."""
    lines = [
        "# Copy to .env and uncomment what you want to change. The environment and the command line",
        f"# win over it. {_GENERATED}.",
    ]
    for path, field in names.known():
        value = built_in(field, path)
        text = ",".join(value) if isinstance(value, list) else "" if value is None else str(value)
        text = str(value).lower() if isinstance(value, bool) else text
        spelled = names.variable(tuple("pico" if part == names.ANY_ALIAS else part for part in path))
        lines += ["", f"# {field.description}", f"#{spelled}={text}"]
    return "\n".join(lines) + "\n"


def write(root: Path) -> list[Path]:
    """Write the texts below the project's folder and return their places."""
    texts = {
        root / "config" / "default.toml": default_toml(),
        root / ".env.example": env_example(),
    }
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return list(texts)


def sections() -> Iterator[tuple[str, type[Section], str]]:
    """Each section with its name in the file and its one-line meaning."""
    for name, field in Settings.model_fields.items():
        section = names.section_of(field)
        if section is not None:
            note = (section.__doc__ or "").strip().splitlines()[0]
            yield (f"{name}.pico" if names.is_table_of_sections(field) else name), section, note


def values(section: type[Section]) -> Iterator[tuple[str, FieldInfo]]:
    """The settings of a section that are plain values."""
    for name, field in section.model_fields.items():
        if names.section_of(field) is None:
            yield name, field


def _toml_values(above: str, section: type[Section]) -> Iterator[str]:
    path = tuple(above.split(".")) if above else ()
    for name, field in values(section):
        value = built_in(field, (*path, name))
        yield from ["", f"# {field.description}"]
        yield f'#{name} = ""' if value is None else f"{name} = {as_toml(value)}"


def built_in(field: FieldInfo, path: names.Path) -> Any:
    """The built-in value in JSON's types; None where a machine or a server decides."""
    if path == ("data_dir",):
        return None  # differs from one platform to the next
    if names.ANY_ALIAS in path or path[0] == "llms":
        pico: Any = Settings().llms["pico"]
        return getattr(pico, path[-1])
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        raise TypeError(f"{'.'.join(path)} is a section")
    return list(value) if isinstance(value, tuple) else value


def as_toml(value: Any) -> str:
    """A value of JSON's types: TOML writes these the same way."""
    return json.dumps(value, ensure_ascii=False)
