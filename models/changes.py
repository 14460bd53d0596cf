"""A cheap look whether anybody has changed the database since the last look."""

from __future__ import annotations

from sqlalchemy import PoolProxiedConnection
from sqlalchemy.exc import TimeoutError as PoolTimeout

from models.database import Database


class Changes:
    """Notices commits of others, those of other processes included. For one thread at a time.

    SQLite counts them: ``PRAGMA data_version`` on a connection that is kept for
    this and writes nothing takes microseconds and no lock. PostgreSQL has
    nothing as cheap, so there the answer is always "perhaps".
    """

    def __init__(self, database: Database) -> None:
        self._engine = database.engine if database.dialect == "sqlite" else None
        self._connection: PoolProxiedConnection | None = None
        self._version: int | None = None

    @property
    def are_counted(self) -> bool:
        """Whether looking is so cheap that one may do it a hundred times a second."""
        return self._engine is not None

    def look(self) -> bool:
        """Whether something may have changed since the last look; the first look says yes."""
        if self._engine is None:
            return True
        try:
            if self._connection is None:
                self._connection = self._engine.raw_connection()
                self._connection.detach()  # kept for long, so not counted among the pool's
            before, self._version = self._version, _count(self._connection)
        except (self._engine.dialect.loaded_dbapi.Error, PoolTimeout):
            self.close()  # whoever looks closer will see what is wrong
            return True
        return self._version != before

    def close(self) -> None:
        """Close the kept connection; a later look opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._version = None


def _count(connection: PoolProxiedConnection) -> int:
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA data_version")
        (version,) = cursor.fetchone() or (0,)
        return int(version)
    finally:
        cursor.close()
