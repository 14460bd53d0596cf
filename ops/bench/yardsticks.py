"""The same work by others: jobs that do nothing, through bare Dramatiq and through Procrastinate."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec

from ops.bench.cycles import AT_ONCE, rate
from ops.bench.figure import Effort, Figure
from ops.bench.hands import Hands
from ops.bench.servers import new_database
from ops.bench.statistics import median, take_turns
from ops.bench.stock import Stock
from ops.complaint import Complaint
from ops.show import say

THREADS = 8
PATIENCE_SECONDS = 600.0


def compare(
    ours: Mapping[str, Stock], effort: Effort, server: str | None, redis_url: str | None
) -> Iterator[Figure]:
    """Jobs per second of each yardstick there is, and of ours by turns with them; nobody has a target."""
    sides: dict[str, Callable[[], float]] = {}
    hands = {store: Hands(stock.database, stock.settings) for store, stock in ours.items()}
    for store, stock in ours.items():
        sides[f"{store}: claim + finish"] = partial(rate, stock, hands[store], effort.cycles, AT_ONCE)
    with ExitStack() as stack:
        if redis_url is not None:
            sides["bare Dramatiq + Redis"] = partial(through_dramatiq, redis_url, effort.noops)
        if server is not None and find_spec("procrastinate") is not None:
            url = stack.enter_context(new_database(server))
            sides["Procrastinate + PostgreSQL"] = partial(through_procrastinate, url, effort.noops)
        elif server is not None:
            say("No Procrastinate: it is measured where it is installed (see the page on benchmarks).")
        take_turns(1, sides)  # what happens once, happens now
        for name, found in take_turns(effort.rounds, sides).items():
            yield Figure(f"no-op jobs, {name}", median(found), "jobs/s", details={"jobs_per_second": found})
    for hand in hands.values():
        hand.leave()


def through_dramatiq(url: str, count: int) -> float:
    """Jobs per second that Dramatiq's own worker takes out of Redis, does and acknowledges."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    broker: dramatiq.Broker = RedisBroker(  # type: ignore[no-untyped-call]  # Dramatiq does not annotate it
        url=url, namespace=f"penstock-bench-{uuid.uuid4().hex}"
    )
    done = Countdown(count)
    noop = dramatiq.actor(broker=broker, actor_name="noop", queue_name="noop")(done.one)
    for _ in range(count):
        noop.send()
    worker = dramatiq.Worker(broker, worker_threads=THREADS, worker_timeout=50)
    begun = time.perf_counter()
    worker.start()
    try:
        done.wait()
        broker.join("noop")  # the last acknowledgements
        return count / (time.perf_counter() - begun)
    finally:
        worker.stop()
        broker.flush_all()
        broker.close()


class Countdown:
    """Jobs that are still to be done."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._guard = threading.Lock()
        self._over = threading.Event()

    def one(self) -> None:
        """Nothing, once."""
        with self._guard:
            self._left -= 1
            if self._left == 0:
                self._over.set()

    def wait(self) -> None:
        """Return when all are done.

        Raises:
            Complaint: it takes too long.
        """
        if not self._over.wait(PATIENCE_SECONDS):
            raise Complaint(f"{self._left} jobs were not done after {PATIENCE_SECONDS:g} s.")


def through_procrastinate(url: str, count: int) -> float:
    """Jobs per second that Procrastinate's own worker takes out of PostgreSQL, does and marks as done."""
    return asyncio.run(_procrastinate(url, count))


async def _procrastinate(url: str, count: int) -> float:
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=url, min_size=THREADS, max_size=2 * THREADS))
    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        noop = app.task(name="noop")(_nothing)
        await noop.batch_defer_async(*[{}] * count)
        begun = time.perf_counter()
        await app.run_worker_async(
            wait=False, concurrency=THREADS, install_signal_handlers=False, listen_notify=False
        )
        return count / (time.perf_counter() - begun)


async def _nothing() -> None:
    """The work."""
