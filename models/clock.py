"""The database's own clock as SQL, so that machines whose clocks differ agree on what is due."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction


class DatabaseMs(GenericFunction[int]):
    """The Unix time in milliseconds at the start of the statement, by the database's clock."""

    type = BigInteger()
    inherit_cache = True


@compiles(DatabaseMs, "postgresql")
def _on_postgresql(_element: DatabaseMs, _compiler: Any, **_options: Any) -> str:
    # statement_timestamp() is stable, so that an index may be searched for it.
    return "CAST(extract(epoch FROM statement_timestamp()) * 1000 AS BIGINT)"


@compiles(DatabaseMs, "sqlite")
def _on_sqlite(_element: DatabaseMs, _compiler: Any, **_options: Any) -> str:
    # 2440587.5 is the Julian day of the Unix epoch; unixepoch('subsec') needs SQLite 3.42.
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
