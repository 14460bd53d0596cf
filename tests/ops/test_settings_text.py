"""The texts that show all settings: complete, in step with the code, and true."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from config import names
from config.settings import Settings
from config.sources import PROJECT, load
from ops import settings_text


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config/default.toml", settings_text.default_toml()),
        (".env.example", settings_text.env_example()),
    ],
)
def test_files_are_in_step(file: str, text: str) -> None:
    """What is committed is what the settings declare: else run ``python -m ops.docs_build``."""
    assert (PROJECT / file).read_text(encoding="utf-8") == text


def spelled() -> list[names.Path]:
    """Every setting, with the built-in LLM for the alias."""
    return [tuple("pico" if part == names.ANY_ALIAS else part for part in path) for path, _ in names.known()]


def test_default_toml_is_complete() -> None:
    """Each setting stands in the file with its built-in value, or as a comment where it has none."""
    text = settings_text.default_toml()
    tables = tomllib.loads(
        text.replace('\n#data_dir = ""', '\ndata_dir = ""').replace('\n#url = ""', '\nurl = ""')
    )
    for path in spelled():
        if path == ("broker", "redis_url"):
            assert '\n#redis_url = ""\n' in text
            continue
        table = tables
        for part in path[:-1]:
            table = table[part]
        assert path[-1] in table, path


def test_every_setting_is_described() -> None:
    """Each setting has a sentence that says what it means."""
    assert [path for path, field in names.known() if not (field.description or "").endswith(".")] == []


def test_env_example_holds_the_built_in_values(tmp_path: Path) -> None:
    """The example sets nothing as it is; with every line uncommented it still changes nothing."""
    text = settings_text.env_example()
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == []
    active = [line[1:] for line in text.splitlines() if line.startswith("#PENSTOCK_")]
    assert [line.partition("=")[0] for line in active] == [names.variable(path) for path in spelled()]
    (tmp_path / ".env").write_text("\n".join(active))
    assert load({}, {}, root=tmp_path) == Settings()


def test_write_makes_the_files(tmp_path: Path) -> None:
    """The command writes each text to its place."""
    written = settings_text.write(tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in written] == [
        "config/default.toml",
        ".env.example",
    ]
    assert written[0].read_text(encoding="utf-8") == settings_text.default_toml()
