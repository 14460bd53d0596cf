"""The service as one command: which processes it has, and when it is ready."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from string import ascii_lowercase, digits
from typing import TYPE_CHECKING, Any

import httpx2

from config.names import variable
from ops import llm_place
from ops.addresses import address, claim_port
from ops.blas import hint
from ops.lifeline import Lifeline, grace
from ops.show import say
from ops.storage import connect
from ops.supervisor.child import Child, Program, penstock
from ops.supervisor.logs import LogTail
from ops.supervisor.preparation import first_key, locked, make_folder, migrate, write_private, writing
from ops.supervisor.supervisor import Supervisor
from workers.stopping import SETTLE_SECONDS

if TYPE_CHECKING:
    from config.settings import Settings
    from models.database import Database

API_GRACE_SECONDS = 15.0
EXIT_SECONDS = 5.0
"""What a worker may need to end as a process when all that it has to do is done."""

PLAIN_SIGNS = frozenset(ascii_lowercase + digits + ".-")


def serve(settings: Settings, overrides: Mapping[str, Any], *, as_json: bool) -> int:
    """Run the service until a signal comes; returns the exit status.

    ``overrides`` are the settings of the command line by dotted name, which
    the children get through their environment.

    Raises:
        Complaint: the data directory is in use or cannot be written, the port is taken, or
            the LLM is not there.
        migrations.SchemaError: the schema is newer than this program, or there is no database.
        models.database.Unavailable: the database does not answer.
    """
    folder = settings.data_dir
    for alias in settings.up_serves:
        llm_place.check(settings, alias)
    make_folder(folder)
    with locked(folder):
        port = claim_port(settings.server.host, settings.server.port)
        database = _prepared(settings)
        forget = _figures(folder)
        lifeline = Lifeline()
        given = {**overrides, "data_dir": folder, "server.port": port}
        children = [
            Child(program, folder / "logs" / f"{program.name}.log", lifeline)
            for program in programs(settings, given)
        ]
        tail = LogTail({child.program.name: child.log for child in children}, sys.stderr)
        tail.start()
        say(f"Starting Penstock in {folder} …")
        if settings.engine.backend == "mlx" and (advice := hint()):
            say(advice)
        readiness = Readiness(address(settings.server.host, port), database, children, settings.up_serves)
        try:
            return Supervisor(children, on_death=forget, tell=diary(folder / "logs" / "up.log")).run(
                readiness.look, lambda: announce(folder, readiness.url, as_json=as_json)
            )
        finally:
            tail.stop()
            lifeline.close()
            database.close()
            (folder / "address").unlink(missing_ok=True)


def _prepared(settings: Settings) -> Database:
    """The database, migrated and with a key."""
    database = connect(settings)
    try:
        migrate(database, settings.data_dir)
        first_key(database, settings.data_dir / "api-key")
    except BaseException:
        database.close()
        raise
    return database


def _figures(folder: Path) -> Callable[[int], None]:
    """Empty the folder of the figures that the children share; returns what forgets a child that ended."""
    from config import telemetry  # before the folder is named: `up` itself counts nothing
    from ops.supervisor.shared import forget

    with writing(folder):
        telemetry.prepare_directory(folder / "metrics")
    os.environ[telemetry.DIRECTORY_VARIABLE] = str(folder / "metrics")
    return partial(forget, folder / "metrics")


def diary(file: Path) -> Callable[[str], None]:
    """What says a sentence and keeps it in ``file``, with the time, as the children keep their logs."""

    def tell(message: str) -> None:
        say(message)
        with suppress(OSError), file.open("a", encoding="utf-8") as stream:
            stream.write(f"{datetime.now(UTC).astimezone():%Y-%m-%d %H:%M:%S} up: {message}\n")

    return tell


def programs(settings: Settings, overrides: Mapping[str, Any]) -> list[Program]:
    """The processes of the service, in the order in which they are stopped: the door first."""
    environment = variables(overrides)
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(settings.data_dir / "metrics")
    patience = settings.worker.grace_seconds + SETTLE_SECONDS + EXIT_SECONDS
    by_worker = environment | grace(patience)
    return [
        Program("api", penstock("api"), environment | grace(API_GRACE_SECONDS), API_GRACE_SECONDS),
        *(
            Program(
                name,
                penstock("worker", "inference"),
                by_worker | preloaded(settings) | variables({"worker.llms": aliases}),
                patience,
            )
            for name, aliases in inference_names(settings).items()
        ),
        Program("errands", penstock("worker", "errands"), by_worker, patience),
    ]


def inference_names(settings: Settings) -> dict[str, tuple[str, ...]]:
    """The inference workers by name, each with the aliases it serves."""
    if len(settings.up_serves) == 1 or settings.worker.share:
        return {"inference": settings.up_serves}
    return {f"inference-{_as_file(alias)}": (alias,) for alias in settings.up_serves}


def _as_file(alias: str) -> str:
    """An alias as a part of a file's name, another for each: unusual signs and capitals become their codes.

    There are file systems to which ``A`` and ``a`` are the same name.
    """
    return "".join(sign if sign in PLAIN_SIGNS else f"_{ord(sign):x}_" for sign in alias)


def variables(overrides: Mapping[str, Any]) -> dict[str, str]:
    """Settings given by dotted name (a value may be a table) as environment variables."""
    found: dict[str, str] = {}
    for name, value in overrides.items():
        if isinstance(value, Mapping):
            found |= variables({f"{name}.{inner}": part for inner, part in value.items()})
        elif value is not None:
            text = ",".join(value) if isinstance(value, list | tuple) else str(value)
            found[variable(tuple(name.split(".")))] = text
    return found


def preloaded(settings: Settings) -> dict[str, str]:
    """The variable that gives the inference worker a faster BLAS, where one is found and needed."""
    if settings.engine.backend != "mlx":
        return {}
    from workers.backends import blas

    return blas.environment(settings.engine.threads)


@dataclass
class Readiness:
    """Whether the API says that it is ready and the workers of this very start have come alive."""

    url: str
    database: Database
    children: list[Child]
    llms: tuple[str, ...]
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def look(self) -> bool:
        """One look; takes about a second at the most."""
        from models.database import Unavailable

        try:
            return self._workers_live() and self._api_is_green()
        except Unavailable:  # the children try again too
            return False

    def _api_is_green(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/health/ready", timeout=1, trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    def _workers_live(self) -> bool:
        from models import workers

        pids = {child.pid for child in self.children}
        with self.database.read() as session:
            living = workers.alive(session)
        ours = [worker for worker in living if worker.pid in pids and worker.started_at >= self.started]
        ready = {llm for llm, standing in workers.standings(ours).items() if standing.is_ready}
        return {worker.kind for worker in ours} >= {"inference", "errands"} and ready >= {*self.llms}


def announce(folder: Path, url: str, *, as_json: bool) -> None:
    """Tell where the service is, where its key is, and one line that tries it."""
    with writing(folder):
        write_private(folder / "address", url + "\n")
    key_file = folder / "api-key"
    curl = (
        f'curl -s {url}/v1/jobs -H "Authorization: Bearer $(cat {shlex.quote(str(key_file))})" '
        """-H 'Content-Type: application/json' -d '{"prompt": "Hello"}'"""
    )
    if as_json:
        facts = {"address": url, "key_file": str(key_file), "data_dir": str(folder), "curl": curl}
        say(json.dumps({**facts, "pid": os.getpid()}), sys.stdout)
    else:
        say(f"\nPenstock is up at {url}\nIts key is in {key_file}\nTry:\n\n  {curl}\n", sys.stdout)
