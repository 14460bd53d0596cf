"""Commands and settings from the database to a running worker: found by a look, done beside jobs.

A look asks two indexes, on SQLite only when the file has changed since the last one. What a
command takes its time for goes on elsewhere; that it has ended is written at the next look.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from models import commands, runtime, workers
from models.base import utcnow
from models.changes import Changes
from models.commands import Command, Kind
from models.database import Database
from workers.identity import Identity

log = logging.getLogger(__name__)

MOST_AT_ONCE = 16
"""Commands that a worker is at together; others wait, for it or for another."""


class Executor(Protocol):
    """Does what commands ask, and follows settings."""

    def execute(self, kind: Kind, args: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """Begin to do something, and return at once; the result is JSON.

        What it raises, or the future holds, is why the command has failed.
        """

    def set_window(self, ms: float) -> None:
        """Gather arrivals for so long from now on."""


class Commands:
    """Takes what waits for a worker that serves ``llm``. For one thread at a time."""

    def __init__(self, database: Database, identity: Identity, llm: str, executor: Executor) -> None:
        self._database = database
        self._identity = identity
        self._llm = llm
        self._executor = executor
        self._changes = Changes(database)
        self._is_unread = True
        self._window_ms: float | None = None
        self._running: dict[tuple[str, str], Future[dict[str, Any]]] = {}

    def look(self) -> None:
        """Write down what has ended, follow settings, take what waits. Call it often.

        Raises:
            models.database.Unavailable: the database does not answer; the next look does what this could not.
        """
        self._write_ends()
        self._is_unread = self._changes.look() or self._is_unread
        if not self._is_unread:
            return
        with self._database.read() as session:
            found = runtime.of(session, self._llm)
            waits = commands.any_waiting(session, self._identity.worker_id, self._llm)
        self._follow(found)
        room = MOST_AT_ONCE - len(self._running)
        if waits and room > 0:
            self._take(room)
        self._is_unread = False  # what a full worker left there is read again when an end has been written

    def close(self) -> None:
        """Look no more; commands that have not ended go back when the worker leaves."""
        self._changes.close()

    def _follow(self, found: Mapping[str, Any]) -> None:
        window_ms = found.get(runtime.WINDOW_MS)
        if window_ms is not None and window_ms != self._window_ms:
            self._window_ms = window_ms
            self._executor.set_window(float(window_ms))
            log.info("arrivals are gathered for %g ms", window_ms)

    def _take(self, room: int) -> None:
        worker_id = self._identity.worker_id
        with self._database.write() as session:
            if not workers.stands(session, worker_id):
                return  # declared lost: what waited for it waits for any, under its new id too
            taken = commands.take(session, worker_id, self._llm, utcnow(), room)
        self._running |= {(command.id, worker_id): self._begin(command) for command in taken}

    def _begin(self, command: Command) -> Future[dict[str, Any]]:
        if command.kind not in {*Kind}:
            return _failed(ValueError(f"this worker's version does not know {command.kind}: update Penstock"))
        try:
            return self._executor.execute(Kind(command.kind), command.args)
        except Exception as error:  # noqa: BLE001 - a bad command fails alone
            return _failed(error)

    def _write_ends(self) -> None:
        ended = {key: future for key, future in self._running.items() if future.done()}
        if not ended:
            return
        now = utcnow()
        with self._database.write() as session:
            for (command_id, worker_id), future in ended.items():
                if (reason := _reason(future)) is None:
                    commands.finish(session, command_id, worker_id, future.result(), now)
                else:
                    commands.fail(session, command_id, worker_id, reason, now)
        for key in ended:
            del self._running[key]


def _failed(error: Exception) -> Future[dict[str, Any]]:
    future: Future[dict[str, Any]] = Future()
    future.set_exception(error)
    return future


def _reason(future: Future[dict[str, Any]]) -> str | None:
    """Why a command has failed; None if it has not."""
    if future.cancelled():
        return "the worker gave it up"
    error = future.exception()
    return None if error is None else str(error) or type(error).__name__
