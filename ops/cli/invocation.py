"""One call of the console script: its shared options, and what is reached through them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ops.complaint import Complaint

if TYPE_CHECKING:
    from config.settings import Settings
    from models.database import Database
    from ops.client import Client


@dataclass(frozen=True)
class Shared:
    """What stood before the command's name: ``penstock --data-dir X --json jobs``."""

    data_dir: Path | None = None
    json: bool = False


@dataclass
class Invocation:
    """What a command was asked for; ``overrides`` are settings of the command line by dotted name."""

    data_dir: Path | None = None
    json: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        ctx: typer.Context,
        data_dir: Path | None,
        json: bool,
        overrides: Mapping[str, Any] | None = None,
    ) -> Invocation:
        """Join a command's own shared options with those before its name; the own ones win."""
        shared = ctx.obj if isinstance(ctx.obj, Shared) else Shared()
        given = {name: value for name, value in (overrides or {}).items() if value is not None}
        return cls(data_dir or shared.data_dir, json or shared.json, given)

    @cached_property
    def settings(self) -> Settings:
        """The settings in force, read once."""
        from config.sources import load

        return load({**self.overrides, "data_dir": self.data_dir})

    def client(self, url: str | None, key: str | None) -> Client:
        """A client of the service that ``--url`` and ``--key`` or the data directory name."""
        from ops.client import Client

        folder = self.settings.data_dir
        if url is None:
            url = _read(folder / "address", "--url") or _address(self.settings)
        if key is None:
            key = _read(folder / "api-key", "--key")
        elif key.startswith("@"):
            named = Path(key[1:]).expanduser()
            key = _read(named, "--key")
            if key is None:
                raise Complaint(f"There is no key in {named}: --key @FILE wants a file with one in it.")
        if not key:
            raise Complaint(
                f"There is no API key in {folder}: start the service with `penstock up`, "
                "or name another folder with --data-dir or a key with --key."
            )
        return Client(url, key)

    @contextmanager
    def database(self) -> Iterator[Database]:
        """The service's database, migrated as this program wants it; closed at the end."""
        import migrations
        from ops.storage import connect, is_there

        settings = self.settings
        if not is_there(settings):
            raise Complaint(
                f"There is no database in {settings.data_dir}: run `penstock up` or `penstock migrate` first."
            )
        database = connect(settings)
        try:
            migrations.check(database)
            yield database
        finally:
            database.close()


def _read(file: Path, option: str) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Complaint(f"{file} cannot be read ({error}): give {option} instead.") from error


def _address(settings: Settings) -> str:
    """Where the settings say the service listens, for one that was not started by `up`."""
    return f"http://127.0.0.1:{settings.server.port}"


def serving(llm: str | None) -> dict[str, Any]:
    """The settings that ``--llm`` stands for: that LLM under its own name, and no other with a worker."""
    if llm is None:
        return {}
    local = Path(llm).expanduser()
    path = str(local.resolve()) if local.is_dir() else llm
    alias = alias_of(path)
    chosen = {"default_llm": alias, "worker.llms": (alias,), "serve": (alias,)}
    return {**chosen, f"llms.{alias}": {"path": path}}


def alias_of(path: str) -> str:
    """A name for an LLM: the last part of its path in small letters, digits and dashes."""
    last = path.removeprefix("builtin:").rstrip("/").rsplit("/", 1)[-1].lower()
    kept = "".join(sign if sign.isalnum() and sign.isascii() else "-" for sign in last)
    return "-".join(part for part in kept.split("-") if part) or "llm"
