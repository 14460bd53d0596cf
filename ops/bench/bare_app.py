"""The yardstick for submissions: a FastAPI handler that inserts one row, and nothing else.

``python -m ops.bench.bare_app DATABASE PORT`` serves ``POST /rows`` on a table
of its own in the service's own SQLite file, with the pragmas of
:mod:`models.database` and the uvicorn settings of the API.
"""

from __future__ import annotations

import sqlite3
import sys
import threading

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-16000")


class Body(BaseModel):
    """What is stored."""

    model_config = ConfigDict(extra="forbid")

    prompt: str
    max_tokens: int


class Row(BaseModel):
    """What is answered."""

    id: int


def create(file: str) -> FastAPI:
    """The application; each thread of its pool keeps one connection, writers take turns as in ours."""
    kept = threading.local()
    turn = threading.Lock()

    def connection() -> sqlite3.Connection:
        if not hasattr(kept, "connection"):
            kept.connection = sqlite3.connect(file, timeout=10, isolation_level=None)
            for pragma in PRAGMAS:
                kept.connection.execute(f"PRAGMA {pragma}")
        found: sqlite3.Connection = kept.connection
        return found

    connection().execute("CREATE TABLE IF NOT EXISTS bench_rows (id INTEGER PRIMARY KEY, request TEXT)")
    app = FastAPI()

    @app.post("/rows", status_code=202)
    def insert(body: Body) -> Row:
        with turn:
            to = connection()
            to.execute("BEGIN IMMEDIATE")
            made = to.execute("INSERT INTO bench_rows (request) VALUES (?)", (body.model_dump_json(),))
            to.execute("COMMIT")
        return Row(id=made.lastrowid or 0)

    return app


if __name__ == "__main__":
    uvicorn.run(create(sys.argv[1]), port=int(sys.argv[2]), log_level="warning", access_log=False)
