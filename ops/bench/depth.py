"""``penstock bench queue``: what a deep queue costs those who work it off, look at it, or add to it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from config.settings import Database as DatabaseSettings
from config.settings import Settings
from models.database import Database
from ops.bench import cycles, looking, pressure, stock, sweeping, yardsticks
from ops.bench.figure import Effort, Figure
from ops.bench.servers import new_database, postgresql, redis
from ops.bench.stock import Stock
from ops.show import say


@dataclass(frozen=True)
class Store:
    """A kind of database, and how to get the URL of an empty one of it for a data directory."""

    name: str
    empty: Callable[[Path], AbstractContextManager[str]]


def sqlite_url(folder: Path) -> AbstractContextManager[str]:
    """A file that the folder's owner throws away."""
    return nullcontext(f"sqlite:///{folder / 'penstock.db'}")


def measure(effort: Effort, folder: Path) -> Iterator[Figure]:
    """All figures on SQLite, on PostgreSQL where there is one, and the yardsticks at last."""
    with postgresql() as server, redis() as redis_url:
        stores = [Store("SQLite", sqlite_url)]
        if server is not None:
            stores.append(Store("PostgreSQL", lambda _folder: new_database(server)))
        for store in stores:
            yield from of_store(store, effort, folder)
        with ExitStack() as stack:
            least = effort.depths[0]
            ours = {s.name: stack.enter_context(stocked(s, effort, folder, least)) for s in stores}
            yield from yardsticks.compare(ours, effort, server, redis_url)


def of_store(store: Store, effort: Effort, folder: Path) -> Iterator[Figure]:
    """Cycles at all depths, with and without an agent that holds half; the rest at the greatest."""
    for hoarded in (True, False):
        with ExitStack() as stack:
            stocks = [
                stack.enter_context(stocked(store, effort, folder, waiting, hoarded=hoarded))
                for waiting in effort.depths
            ]
            yield from cycles.measure(store.name, stocks, effort)
            if not hoarded:
                deepest = stocks[-1]
                yield from cycles.storing(store.name, deepest, effort)
                stock.settle(deepest.database)
                yield from sweeping.measure(store.name, deepest, effort)
                yield from looking.measure(store.name, deepest, effort)
                yield from pressure.measure(store.name, deepest, effort)


@contextmanager
def stocked(
    store: Store, effort: Effort, folder: Path, waiting: int, *, hoarded: bool = False
) -> Iterator[Stock]:
    """A filled database of a store, in a data directory of its own."""
    place = folder / f"{store.name.lower()}-{waiting}{'-hoarded' if hoarded else ''}"
    place.mkdir()
    with store.empty(place) as url:
        settings = Settings(data_dir=place, database=DatabaseSettings(url=SecretStr(url)))
        database = Database.connect(url)
        try:
            ended = min(effort.ended, waiting)
            say(f"Storing {waiting:,} jobs in {store.name} …")
            yield stock.make(database, settings, waiting, ended, hoarded=hoarded)
        finally:
            database.close()
    shutil.rmtree(place)  # the next one needs the room
