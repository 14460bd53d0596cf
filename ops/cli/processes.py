"""Commands that run the service: all of it, one of its processes, or its migrations."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from ops.addresses import is_loopback
from ops.cli.invocation import Invocation, serving
from ops.cli.options import AllowRemote, DataDir, Json, LlmPath, Port
from ops.complaint import CONFIGURATION_ERROR, Complaint
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

    with _plainly():
        status = serve(call.settings, call.overrides, as_json=call.json)
    raise typer.Exit(status)


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
def inference(ctx: typer.Context, llm: LlmPath = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Run the worker that holds the LLM."""

    def run(settings: Settings) -> int:
        _with_blas(settings)
        import migrations
        from workers.inference import main

        return main(settings, migrations.check)

    _run(Invocation.of(ctx, data_dir, json, serving(llm)), run)


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
    with _plainly():
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
    allowed = replace(call, overrides={**call.overrides, "server.allow_remote": True})
    if not is_loopback(allowed.settings.server.host):
        return allowed
    return replace(allowed, overrides={**allowed.overrides, "server.host": EVERY_ADDRESS})


def _run(call: Invocation, main: Callable[[Settings], int]) -> None:
    """Run one process of the service in the foreground, with its log on stderr."""
    folder = call.settings.data_dir
    try:
        (folder / "metrics").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Complaint(f"The data directory {folder} cannot be used: {error.strerror}.") from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each plug-in it finds
    with _plainly():
        status = main(call.settings)
    raise typer.Exit(status)


def _with_blas(settings: Settings) -> None:
    """Start this process anew with a faster BLAS where there is one and nobody has preloaded it yet."""
    from ops.supervisor.child import ROOT, penstock
    from ops.supervisor.up import preloaded

    wanted = preloaded(settings)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        command = penstock(*sys.argv[1:])
        os.execve(command[0], command, {**os.environ, **wanted, "PYTHONPATH": str(ROOT)})  # noqa: S606 - ourselves


@contextmanager
def _plainly() -> Iterator[None]:
    """Say what the settings or the schema forbid without a traceback."""
    import migrations
    from config.sources import ConfigurationError
    from models.database import Unavailable

    try:
        yield
    except (ConfigurationError, migrations.SchemaError) as error:
        raise Complaint(str(error), CONFIGURATION_ERROR) from error
    except Unavailable as error:
        raise Complaint(f"The database does not answer: {error}") from error
