"""Small transactions of several threads as one: they share BEGIN, COMMIT and the wait for the disk."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from copy import copy
from typing import Generic, TypeVar

from sqlalchemy.orm import Session

from models import hooks
from models.database import Database

Outcome = TypeVar("Outcome")

MOST = 64
"""Acts that share a transaction at most."""


class _Ticket(Generic[Outcome]):
    """One thread's act, and what became of it."""

    def __init__(self, act: Callable[[Session], Outcome]) -> None:
        self.act = act
        self.called = threading.Lock()
        self.called.acquire()
        self.is_done = False
        self.outcome: Outcome
        self.error: BaseException | None = None

    def run(self, session: Session) -> None:
        self.outcome = self.act(session)

    def end(self, error: BaseException | None = None) -> None:
        self.error, self.is_done = error, True
        self.called.release()


class Together:
    """Runs acts in transactions of a database; those that meet in front of SQLite's one lock run in one.

    Only one can write there at a time: who has to wait anyway lets the thread in
    front do the work, so that the lock is not handed from one sleeping thread
    to the next and the disk is waited for once. An act may run twice, the first
    time in vain, so it changes nothing but the session. On PostgreSQL each act
    has its own transaction.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._guard = threading.Lock()
        self._waiting: deque[_Ticket[object]] = deque()
        self._is_led = False

    def write(self, act: Callable[[Session], Outcome]) -> Outcome:
        """Run ``act`` in a transaction that is committed on return; raises what it or the commit raises."""
        if self._database.dialect != "sqlite":
            with self._database.write() as session:
                return act(session)
        ticket = _Ticket(act)
        with self._guard:
            self._waiting.append(ticket)  # type: ignore[arg-type]  # its outcome is nobody's but ours
            leads, self._is_led = not self._is_led, True
        if not leads:
            ticket.called.acquire()
        if not ticket.is_done:
            self._lead()
        if ticket.error is not None:
            raise ticket.error
        return ticket.outcome

    def _lead(self) -> None:
        """Run what waits, one's own among it, and call the next leader if more has come."""
        group: list[_Ticket[object]] = []
        after: list[Callable[[], None]] = []
        try:
            self._run(group, after)
        finally:
            with self._guard:
                self._is_led = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].called.release()
        hooks.run(after)  # it may take its time, and only the leader's own

    def _run(self, group: list[_Ticket[object]], after: list[Callable[[], None]]) -> None:
        error: Exception | None = None
        try:
            with self._database.write() as session:
                group += self._take()  # whoever came while the lock was waited for is in it
                for ticket in group:
                    ticket.run(session)
                after += hooks.take(session)
        except Exception as failure:  # noqa: BLE001  (told to whom it concerns)
            after.clear()
            if len(group) > 1:
                return self._run_apart(group)
            group += () if group else self._take()
            error = failure
        for ticket in group:
            ticket.end(_own(error) if error is not None and len(group) > 1 else error)
        return None

    def _take(self) -> list[_Ticket[object]]:
        with self._guard:
            return [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]

    def _run_apart(self, group: list[_Ticket[object]]) -> None:
        """One of them failed, or the commit: each alone, so that it concerns nobody else."""
        for ticket in group:
            error: BaseException | None = None
            try:
                with self._database.write() as session:
                    ticket.run(session)
            except Exception as failure:  # noqa: BLE001  (as above)
                error = failure
            ticket.end(error)


def _own(error: Exception) -> Exception:
    """A copy for one thread: an exception that several raise gathers the tracebacks of all."""
    own = copy(error)
    own.__cause__ = error
    return own
