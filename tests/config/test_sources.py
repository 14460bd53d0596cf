"""Where settings come from, which source wins, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from config.sources import PROJECT, ConfigurationError, load


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project's folder with no settings in it."""
    (tmp_path / "config").mkdir()
    return tmp_path


def refusal(root: Path, overrides: dict[str, Any] | None = None, **environ: str) -> str:
    """What ``load`` says of settings that it refuses."""
    with pytest.raises(ConfigurationError) as caught:
        load(overrides, environ, root=root)
    return str(caught.value)


def test_nothing_set_means_the_built_in_values(root: Path) -> None:
    """Without any source the declared values hold."""
    assert load(None, {}, root=root) == Settings()


def test_the_shipped_files_change_nothing() -> None:
    """``config/default.toml`` as shipped holds the built-in values."""
    assert load(None, {}, root=PROJECT) == Settings()


def test_each_source_wins_over_those_below_it(root: Path) -> None:
    """Command line, environment, ``.env``, the environment's file, the default file: in this order."""
    overrides: dict[str, Any] = {"server": {"port": 1}}
    environ = {"PENSTOCK_SERVER__PORT": "2", "PENSTOCK_SERVER__THREADS": "2", "PENSTOCK_ENVIRONMENT": "big"}
    lines = [f"PENSTOCK_{name}=3" for name in ("SERVER__PORT", "SERVER__THREADS", "SERVER__PAGE_MAX")]
    (root / ".env").write_text("\n".join(lines))
    (root / "config" / "big.toml").write_text(
        "[server]\nport = 4\nthreads = 4\npage_max = 4\nmax_body_bytes = 4444\n"
    )
    (root / "config" / "default.toml").write_text(
        "[server]\nport = 5\nthreads = 5\npage_max = 5\nmax_body_bytes = 5555\nwait_max_seconds = 5\n"
    )
    server = load(overrides, environ, root=root).server
    assert (server.port, server.threads, server.page_max) == (1, 2, 3)
    assert (server.max_body_bytes, server.wait_max_seconds) == (4444, 5)
    assert server.host == "127.0.0.1"


def test_the_environment_can_be_named_in_any_source(root: Path) -> None:
    """``environment`` picks its file whether the command line, ``.env`` or the default file names it."""
    (root / "config" / "big.toml").write_text('currency = "CHF"\n')
    assert load({"environment": "big"}, {}, root=root).currency == "CHF"
    (root / "config" / "default.toml").write_text('environment = "big"\n')
    assert load({}, {}, root=root).currency == "CHF"
    (root / ".env").write_text("PENSTOCK_ENVIRONMENT=default\n")
    assert load({}, {}, root=root).currency == "EUR"


def test_options_that_were_not_given_win_over_nothing(root: Path) -> None:
    """None and empty strings leave the weaker source in force, whatever their source."""
    (root / ".env").write_text("PENSTOCK_CURRENCY=\nPENSTOCK_DATABASE__URL=\n")
    (root / "config" / "default.toml").write_text('currency = "USD"\ndata_dir = ""\n')
    environ = {"PENSTOCK_SERVER__PORT": "77", "PENSTOCK_CURRENCY": ""}
    settings = load({"server.port": None, "server": {"host": None}, "data_dir": ""}, environ, root=root)
    assert (settings.server.port, settings.currency) == (77, "USD")
    assert settings.data_dir == Settings().data_dir
    assert settings.database.url is None


def test_overrides_may_be_dotted(root: Path) -> None:
    """The command line gives nested tables or dotted names."""
    settings = load({"server.port": 5, "engine": {"max_rows": 3}, "server.threads": 4}, {}, root=root)
    assert (settings.server.port, settings.server.threads, settings.engine.max_rows) == (5, 4, 3)


def test_an_alias_keeps_its_dots(root: Path) -> None:
    """An LLM's alias with a dot in it is one name, in TOML and on the command line."""
    (root / "config" / "default.toml").write_text('[llms."qwen2.5"]\npath = "a"\n[llms.pico]\npath = "b"\n')
    settings = load({"llms": {"llama3.1": {"path": "c"}}}, {}, root=root)
    assert {alias: llm.path for alias, llm in settings.llms.items()} == {
        "qwen2.5": "a",
        "pico": "b",
        "llama3.1": "c",
    }


def test_lists_and_secrets_in_variables(root: Path) -> None:
    """A variable holds a list with commas; a URL with a password does not show in a print-out."""
    environ = {
        "PENSTOCK_SERVER__ALLOWED_HOSTS": "localhost, penstock.lan",
        "PENSTOCK_DATABASE__URL": "postgresql://ada:hush@db/penstock",
    }
    settings = load({}, environ, root=root)
    assert settings.server.allowed_hosts == ("localhost", "penstock.lan")
    assert settings.database_url == "postgresql://ada:hush@db/penstock"
    assert "hush" not in repr(settings)


def test_the_process_environment_is_the_default(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping of its own, ``load`` reads the variables of the process."""
    monkeypatch.setenv("PENSTOCK_SERVER__PORT", "4321")
    assert load(root=root).server.port == 4321


def test_the_data_directory_is_absolute(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative data directory or one below the home is the same for every process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load({"data_dir": "here"}, {}, root=root).data_dir == tmp_path / "here"
    assert load({"data_dir": "~/there"}, {}, root=root).data_dir == tmp_path / "home" / "there"


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("PENSTOCK_SERVER__PROT", "PENSTOCK_SERVER__PORT"),
        ("PENSTOCK_SERVER_PORT", "PENSTOCK_SERVER__PORT"),
        ("PENSTOCK_PORT", "PENSTOCK_SERVER__PORT"),
        ("PENSTOCK_SERV__HOST", "PENSTOCK_SERVER__HOST"),
        ("PENSTOCK_DATADIR", "PENSTOCK_DATA_DIR"),
        ("PENSTOCK_REDIS_URL", "PENSTOCK_BROKER__REDIS_URL"),
        ("PENSTOCK_LLMS__BIG__PTH", "PENSTOCK_LLMS__BIG__PATH"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest(root: Path, variable: str, nearest: str) -> None:
    """A variable that no setting has is named with its source and the setting that it resembles."""
    said = refusal(root, None, **{variable: "1"})
    assert said == f"{variable} (environment): unknown setting; did you mean {nearest}?"


def test_unknown_settings_are_refused_in_every_source(root: Path) -> None:
    """All unknown settings are told at once, each in its source's spelling."""
    (root / ".env").write_text("PENSTOCK_ENGINE__MAX_ROW=1\n")
    (root / "config" / "big.toml").write_text("[live]\npol_ms = 1\n[shop]\nitem.price = 1\n")
    (root / "config" / "default.toml").write_text("[server]\nprot = 1\n")
    said = refusal(root, {"bulk.max_job": 3, "environment": "big"}, PENSTOCK_QQQQQQ="1")
    assert said.splitlines() == [
        "bulk.max_job (command line): unknown setting; did you mean bulk.max_jobs?",
        "PENSTOCK_QQQQQQ (environment): unknown setting",
        "PENSTOCK_ENGINE__MAX_ROW (.env): unknown setting; did you mean PENSTOCK_ENGINE__MAX_ROWS?",
        "live.pol_ms (config/big.toml): unknown setting; did you mean live.poll_ms?",
        "shop.item.price (config/big.toml): unknown setting",
        "server.prot (config/default.toml): unknown setting; did you mean server.port?",
    ]


def test_a_wrong_value_names_setting_source_and_meaning(root: Path) -> None:
    """A value that will not do is told where it stands and what the setting means."""
    (root / "config" / "default.toml").write_text('[engine]\nmax_rows = 0\n[llms.big]\npath = ["x"]\n')
    said = refusal(root, {"broker.kind": "rabbit"}, PENSTOCK_SERVER__PORT="99999").splitlines()
    assert len(said) == 4
    assert said[0].startswith("PENSTOCK_SERVER__PORT (environment): ")
    assert "65535, not '99999'. TCP port" in said[0]
    assert said[1].startswith("broker.kind (command line): ")
    assert "'sql' or 'redis', not 'rabbit'" in said[1]
    assert said[2].startswith("engine.max_rows (config/default.toml): ")
    assert said[3].startswith("llms.big.path (config/default.toml): ")
    assert "builtin:pico" in said[3]


def test_the_strongest_source_is_blamed(root: Path) -> None:
    """When several sources set a value, the one in force is named."""
    (root / "config" / "default.toml").write_text("[server]\nport = 1\n")
    assert "(.env)" in refusal_with_dotenv(root, "PENSTOCK_SERVER__PORT=x")


def refusal_with_dotenv(root: Path, line: str) -> str:
    """What is said when ``.env`` holds one line."""
    (root / ".env").write_text(line + "\n")
    return refusal(root)


@pytest.mark.parametrize(
    ("overrides", "cure"),
    [
        ({"broker.kind": "redis"}, "set PENSTOCK_BROKER__REDIS_URL="),
        ({"live.kind": "redis"}, "set PENSTOCK_BROKER__REDIS_URL="),
        ({"server.host": "0.0.0.0"}, "set server.allow_remote to true"),
        ({"server.host": "penstock.lan"}, "set server.allow_remote to true"),
        ({"default_llm": "big"}, "add [llms.big] with its path"),
        ({"serve": ["big"]}, "serve is big, which llms does not name; there is: pico"),
        ({"worker.llms": ["pico", "big"]}, "worker.llms is big, which llms does not name; there is: pico"),
        (
            {"serve": "big", "llms": {"pico": {"path": "x"}, "big": {"path": "y"}}},
            "default_llm is pico, which is not among serve (big), so no worker would run the jobs",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    root: Path, overrides: dict[str, Any], cure: str
) -> None:
    """A contradiction between settings is told with its cure."""
    assert cure in refusal(root, overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        {"broker": {"kind": "redis", "redis_url": "redis://localhost:6379/0"}, "live.kind": "redis"},
        {"server": {"host": "0.0.0.0", "allow_remote": True}},
        {"server.host": "localhost"},
        {"server.host": "::1"},
        {"server.host": "127.0.0.2"},
        {"default_llm": "big", "llms": {"big": {"path": "x"}}},
        {"default_llm": "big", "serve": "big", "llms": {"pico": {"path": "x"}, "big": {"path": "y"}}},
        {"serve": ["big", "pico"], "llms": {"pico": {"path": "x"}, "big": {"path": "y"}}},
    ],
)
def test_settings_that_fit_together_pass(root: Path, overrides: dict[str, Any]) -> None:
    """What the cures ask for is accepted, and every loopback address is."""
    load(overrides, {}, root=root)


def test_files_that_cannot_be_read_are_named(root: Path) -> None:
    """Broken TOML, an environment without a file, and broken JSON are told with their source."""
    assert "there is no config/big.toml" in refusal(root, {"environment": "big"})
    assert "PENSTOCK_ENVIRONMENT (environment)" in refusal(root, None, PENSTOCK_ENVIRONMENT="../big")
    assert refusal(root, None, PENSTOCK_SERVER="{port").startswith("environment: ")
    (root / "config" / "default.toml").write_text("port =\n")
    assert "config/default.toml is not TOML" in refusal(root)


def test_settings_cannot_be_changed(root: Path) -> None:
    """What was read once stays as it is."""
    with pytest.raises(ValueError, match="frozen"):
        setattr(load({}, {}, root=root).server, "port", 1)  # noqa: B010 - mypy sees that it is read-only
