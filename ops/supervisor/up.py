"""The service as one command: which processes it has, and when it is ready."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from config.names import variable
from ops.addresses import address, claim_port
from ops.lifeline import Lifeline
from ops.show import line, say
from ops.storage import connect
from ops.supervisor.child import Child, Program, penstock
from ops.supervisor.logs import LogTail
from ops.supervisor.preparation import first_key, locked, make_folder, migrate, write_private
from ops.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from config.settings import Settings
    from models.database import Database

API_GRACE_SECONDS = 15.0
WORKER_MARGIN_SECONDS = 15.0
"""What a worker may need beyond its own grace time to write down what it gives back."""


def serve(settings: Settings, overrides: Mapping[str, Any], *, as_json: bool) -> int:
    """Run the service until a signal comes; returns the exit status.

    ``overrides`` are the settings of the command line by dotted name, which
    the children get through their environment.

    Raises:
        Complaint: the data directory is in use or cannot be made, the port is
            taken, or the schema is newer than this program.
    """
    folder = settings.data_dir
    make_folder(folder)
    from config import telemetry  # counts in a folder that must be there when it is imported

    with locked(folder):
        port = claim_port(settings.server.host, settings.server.port)
        database = _prepared(settings)
        telemetry.prepare_directory(folder / "metrics")
        lifeline = Lifeline()
        given = {**overrides, "data_dir": folder, "server.port": port}
        children = [
            Child(program, folder / "logs" / f"{program.name}.log", lifeline)
            for program in programs(settings, given)
        ]
        tail = LogTail({child.program.name: child.log for child in children}, sys.stderr)
        tail.start()
        say(f"Starting Penstock in {folder} …")
        readiness = Readiness(address(settings.server.host, port), database, children, settings.default_llm)
        try:
            return Supervisor(children, on_death=telemetry.forget_process).run(
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


def programs(settings: Settings, overrides: Mapping[str, Any]) -> list[Program]:
    """The processes of the service, in the order in which they are stopped: the door first."""
    environment = variables(overrides)
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(settings.data_dir / "metrics")
    grace = settings.worker.grace_seconds + WORKER_MARGIN_SECONDS
    return [
        Program("api", penstock("api"), environment, API_GRACE_SECONDS),
        Program("inference", penstock("worker", "inference"), environment | preloaded(settings), grace),
        Program("errands", penstock("worker", "errands"), environment, grace),
    ]


def variables(overrides: Mapping[str, Any]) -> dict[str, str]:
    """Settings given by dotted name (a value may be a table) as environment variables."""
    found: dict[str, str] = {}
    for name, value in overrides.items():
        if isinstance(value, Mapping):
            found |= variables({f"{name}.{inner}": part for inner, part in value.items()})
        elif value is not None:
            found[variable(tuple(name.split(".")))] = str(value)
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
    llm: str
    started: datetime | None = None

    def look(self) -> bool:
        """One look; takes about a second at the most."""
        from models.base import utcnow

        self.started = self.started or utcnow()
        return self._workers_live() and self._api_is_green()

    def _api_is_green(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/health/ready", timeout=1, trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    def _workers_live(self) -> bool:
        from models import workers

        pids = {child.pid for child in self.children}
        with self.database.read() as session:
            kinds = {worker.kind for worker in workers.alive(session) if worker.pid in pids}
            llms = {llm.alias: llm.updated_at for llm in workers.llms(session) if llm.ready}
        loaded = self.llm in llms and self.started is not None and llms[self.llm] >= self.started
        return kinds >= {"inference", "errands"} and loaded


def announce(folder: Path, url: str, *, as_json: bool) -> None:
    """Tell where the service is, where its key is, and one line that tries it."""
    write_private(folder / "address", url + "\n")
    key_file = folder / "api-key"
    curl = (
        f'curl -s {url}/v1/jobs -H "Authorization: Bearer $(cat {shlex.quote(str(key_file))})" '
        """-H 'Content-Type: application/json' -d '{"prompt": "Hello"}'"""
    )
    if as_json:
        facts = {"address": url, "key_file": str(key_file), "data_dir": str(folder), "curl": curl}
        line({**facts, "pid": os.getpid()})
        return
    print(f"\nPenstock is up at {url}\nIts key is in {key_file}\nTry:\n\n  {curl}\n", flush=True)
