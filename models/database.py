"""Connections and transactions on SQLite and PostgreSQL.

On SQLite a write takes the lock at its start (``BEGIN IMMEDIATE``), so that it
never has to be tried again half-way, and the writers of one process queue
fairly in front of it: SQLite's own waiting is by sleeping, without an order.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from models import hooks, rows

__all__ = ["Database", "Session", "Turnstile", "Unavailable", "make_engine"]

READ_ONLY = "penstock_read_only"

LOOK_SECONDS = 0.001
"""How often a writer looks whether another process has given SQLite's lock back."""

BUSY_TIMEOUT_MS = 10_000
"""How long a writer waits in front of SQLite's lock, and then for it, unless it is set."""

_NO_ANSWER = (OperationalError, InterfaceError, PoolTimeout)


class Unavailable(SQLAlchemyError):  # noqa: N818  (a state that passes, not a mistake)
    """The database cannot be used now: locked, full, or out of reach. Trying later may help."""


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except _NO_ANSWER as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()
        raise Unavailable(reason[0] if reason else type(error).__name__) from error


class Turnstile:
    """A lock that lets waiting threads through in the order in which they came.

    Who has waited for so many ``seconds`` goes away by Unavailable: when another process holds
    SQLite's lock, those who queue wait together and not each in turn.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._guard = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._guard:
            if not self._held:
                self._held = True
                return
            ticket = threading.Lock()
            ticket.acquire()
            self._waiting.append(ticket)
        if not ticket.acquire(timeout=self._seconds):
            self._give_up(ticket)

    def _give_up(self, ticket: threading.Lock) -> None:
        with self._guard:
            if ticket in self._waiting:  # else it has been let through meanwhile
                self._waiting.remove(ticket)
                raise Unavailable("database is locked")

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False


def make_engine(url: str, *, pool_size: int = 16, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> Engine:
    """An engine for ``url``; plain ``postgresql://`` means psycopg 3.

    Raises:
        sqlalchemy.exc.ArgumentError: the URL cannot be read.
        ValueError: the database is neither a SQLite file nor PostgreSQL.
    """
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
        return create_engine(
            parsed, pool_size=pool_size, max_overflow=4, pool_pre_ping=True, json_serializer=_to_json
        )
    if backend != "sqlite":
        raise ValueError(f"database.url: {backend} is not supported; use sqlite or postgresql")
    if parsed.database in (None, "", ":memory:"):
        raise ValueError("database.url: SQLite needs a file; each thread would have a memory of its own")
    engine = create_engine(
        parsed,
        pool_size=pool_size,
        max_overflow=4,
        json_serializer=_to_json,
        connect_args={"timeout": busy_timeout_ms / 1000, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", partial(_begin_sqlite, patience=busy_timeout_ms / 1000))
    return engine


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Durable WAL, enforced foreign keys, and no transactions begun by the driver."""
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-16000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection, patience: float) -> None:
    if connection.get_execution_options().get(READ_ONLY, False):
        connection.exec_driver_sql("BEGIN")
        return
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        _take_lock(connection, time.monotonic() + patience)
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(patience * 1000)}")


def _take_lock(connection: Connection, until: float) -> None:
    """Ask for the write lock every millisecond.

    SQLite itself would sleep longer and longer, up to a tenth of a second: a process that asks
    seldom hardly ever finds the lock free beside one that asks again at once.
    """
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except OperationalError as error:
            if time.monotonic() >= until or not _is_busy(error):
                raise
            time.sleep(LOOK_SECONDS)
        else:
            return


def _is_busy(error: OperationalError) -> bool:
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


class Database:
    """Transactions on one engine: ``write`` for changes, ``read`` for looking."""

    def __init__(self, engine: Engine, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
        self.engine = engine
        self.dialect = engine.dialect.name
        snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        options = {READ_ONLY: True} if self.dialect == "sqlite" else snapshot
        self._reader = engine.execution_options(**options)
        self._turnstile = Turnstile(busy_timeout_ms / 1000) if self.dialect == "sqlite" else nullcontext()

    @classmethod
    def connect(cls, url: str, *, pool_size: int = 16, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> Database:
        """A database at ``url``; errors as in :func:`make_engine`."""
        engine = make_engine(url, pool_size=pool_size, busy_timeout_ms=busy_timeout_ms)
        return cls(engine, busy_timeout_ms)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises.

        What waits for the commit (:func:`models.hooks.after_commit`) runs when the next writer
        has been let in and the connection is free: it may take its time.

        Raises:
            Unavailable: the database cannot be used now; nothing was changed.
        """
        with (
            self._turnstile,
            _reachable(),
            Session(self.engine, expire_on_commit=False) as session,
            session.begin() as transaction,
        ):
            yield session
            callbacks: list[Callable[[], None]] = []
            if transaction.is_active:  # the block itself may have rolled it back
                rows.write(session)
                callbacks = hooks.take(session)
        hooks.run(callbacks)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent look that takes no lock and writes nothing; raises as :meth:`write`."""
        with _reachable(), Session(self._reader, expire_on_commit=False) as session:
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
