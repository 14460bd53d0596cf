"""The test servers themselves."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import redis

HOLDER = """
import time
from tests import servers
with servers.private_{kind}() as server:
    print(servers.valkey_url(server) if "{kind}" == "valkey" else server.get_uri(), flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgres", "valkey"])
def test_a_server_does_not_outlive_a_killed_process(kind: str) -> None:
    """When a test process is killed, its server is stopped and its folder removed."""
    command = [sys.executable, "-c", HOLDER.format(kind=kind)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        url = holder.stdout.readline().strip()
        folder = Path(url.partition("host=")[2] or Path(url.partition("//")[2]).parent)
        assert folder.is_dir()
        holder.kill()
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()


def test_a_database_is_fresh(postgres_url: str) -> None:
    """A test's PostgreSQL database has no tables, and its version is one of the supported."""
    with psycopg.connect(postgres_url) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert tables == (0,)
        assert connection.info.server_version >= 140000


def test_a_namespace_is_empty(redis_url: str, redis_namespace: str) -> None:
    """A test's key prefix has nothing under it."""
    with redis.Redis.from_url(redis_url) as client:
        assert list(client.scan_iter(match=f"{redis_namespace}*")) == []
