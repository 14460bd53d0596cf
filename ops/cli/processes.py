"""Commands that run the service: all of it, one of its processes, or its migrations."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from json import dumps
from typing import TYPE_CHECKING

import typer

from ops.cli.invocation import Invocation, serving
from ops.cli.options import Aliases, AllowRemote, DataDir, Json, LlmPath, Port
from ops.lifeline import is_held
from ops.show import document, say

if TYPE_CHECKING:
    from config.settings import Settings

EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - bound only where --allow-remote asks for it

worker = typer.Typer(help="Run one worker in the foreground.", no_args_is_help=True)


def up(
    ctx: typer.Context,
    port: Port = None,
    llm: LlmPath = None,
    allow_remote: AllowRemote = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Run the whole service until it is stopped."""
    call = Invocation.of(ctx, data_dir, json, {"server.port": port, **serving(llm)})
    if allow_remote:
        call = opened(call)
    from ops.supervisor.up import serve

    raise typer.Exit(serve(call.settings, call.overrides, as_json=call.json))


def api(
    ctx: typer.Context,
    port: Port = None,
    allow_remote: AllowRemote = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Run the HTTP API alone."""
    call = Invocation.of(ctx, data_dir, json, {"server.port": port})
    if allow_remote:
        call = opened(call)

    def run(settings: Settings) -> int:
        import migrations
        from api.serve import serve

        serve(settings, migrations.check)
        return 0

    _run(call, run)


@worker.command()
def inference(
    ctx: typer.Context,
    llm: LlmPath = None,
    alias: Aliases = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Run the worker that holds an LLM: the default one, or configured ones by their aliases."""

    def run(settings: Settings) -> int:
        _with_blas(settings)
        import migrations
        from ops import llm_place
        from workers.inference import main

        for name in settings.served_llms:
            llm_place.check(settings, name)
        return main(settings, migrations.check)

    _run(Invocation.of(ctx, data_dir, json, {"worker.llms": tuple(alias or ()) or None, **serving(llm)}), run)


@worker.command()
def errands(ctx: typer.Context, data_dir: DataDir = None, json: Json = False) -> None:
    """Run the worker for everything that needs no LLM."""

    def run(settings: Settings) -> int:
        import migrations
        from workers.errands import main

        return main(settings, migrations.check)

    _run(Invocation.of(ctx, data_dir, json), run)


def migrate(ctx: typer.Context, data_dir: DataDir = None, json: Json = False) -> None:
    """Bring the database up to this version; an SQLite file is backed up before."""
    call = Invocation.of(ctx, data_dir, json)
    import migrations
    from ops.storage import connect
    from ops.supervisor import preparation

    settings = call.settings
    preparation.make_folder(settings.data_dir)
    database = connect(settings)
    try:
        before = preparation.migrate(database, settings.data_dir)
    finally:
        database.close()
    if call.json:
        document({"from": before, "to": migrations.head()})
    else:
        say(f"The database is at {migrations.head()}." if before else "The database was made.")


def opened(call: Invocation) -> Invocation:
    """The call with ``--allow-remote``: on the address that is set, or on all if that one is local."""
    from config.settings import is_loopback

    allowed = replace(call, overrides={**call.overrides, "server.allow_remote": True})
    if not is_loopback(allowed.settings.server.host):
        return allowed
    return replace(allowed, overrides={**allowed.overrides, "server.host": EVERY_ADDRESS})


def _run(call: Invocation, main: Callable[[Settings], int]) -> None:
    """Run one process of the service in the foreground, with its log on stderr, or as JSON on stdout."""
    from ops.supervisor.preparation import writing

    folder = call.settings.data_dir
    with writing(folder):
        (folder / "metrics").mkdir(parents=True, exist_ok=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
        from ops.supervisor.shared import tidy  # which brings config.telemetry: it takes its room on the disk

        if not is_held():
            tidy(folder / "metrics")
    # What the format does not show is not looked up for each line (the logging HOWTO's "Optimization").
    logging._srcfile = None  # noqa: SLF001 - the documented switch
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=logging.INFO, handlers=[_log(as_json=call.json)])
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each plug-in it finds
    raise typer.Exit(main(call.settings))


class JsonLines(logging.Formatter):
    """A log for programs: an object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger and message, and the traceback of an error."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return dumps(entry, ensure_ascii=False)


def _log(*, as_json: bool) -> logging.Handler:
    """Where the log goes: for people to stderr, for programs to stdout."""
    handler = logging.StreamHandler(sys.stdout if as_json else sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if as_json else plain)
    return handler


def _with_blas(settings: Settings) -> None:
    """Start this process anew with a faster BLAS where there is one and nobody has preloaded it yet.

    Under a parent it stays as it is: a new start would lose the line by which it notices the parent's end.
    """
    if is_held():
        return
    from ops.supervisor.child import ROOT, penstock
    from ops.supervisor.up import preloaded

    wanted = preloaded(settings)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        command = penstock(*sys.argv[1:])
        os.execve(command[0], command, {**os.environ, **wanted, "PYTHONPATH": str(ROOT)})  # noqa: S606 - ourselves
