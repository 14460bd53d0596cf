"""The errands process: sweeping, tidying and what else needs no LLM."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

from config.settings import Settings
from models.database import Database, Unavailable
from workers.broker import make_broker, make_live_log
from workers.identity import Identity
from workers.outage import outlast
from workers.signals import StopSignal
from workers.sweeper import Sweeper

log = logging.getLogger(__name__)


def main(settings: Settings, check_schema: Callable[[Database], None]) -> int:
    """Sweep until SIGTERM; 0 after a clean stop.

    A database that is away at the start is waited for.
    ``check_schema`` raises when the database's schema does not fit this program.
    """
    stop = StopSignal()
    busy_timeout_ms = settings.database.busy_timeout_ms
    with closing(
        Database.connect(settings.database_url, pool_size=4, busy_timeout_ms=busy_timeout_ms)
    ) as database:
        if not outlast(partial(check_schema, database), lambda: stop.is_set):
            return 0
        with (
            closing(make_broker(settings, database)) as broker,
            closing(make_live_log(settings, database)) as live,
        ):
            identity = Identity(database, "errands", settings.data_dir)
            if outlast(identity.register, lambda: stop.is_set):
                _serve(settings, stop, identity, Sweeper(database, broker, live, settings))
                with database.write() as session:
                    identity.leave(session, settings.currency)
    return 0


def _serve(settings: Settings, stop: StopSignal, identity: Identity, sweeper: Sweeper) -> None:
    beat_at = 0.0
    while not stop.wait(settings.worker.sweep_ms / 1000):
        try:
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + settings.worker.heartbeat_ms / 1000
                if not identity.beat({}):
                    identity.register()
            if settings.worker.sweep:
                sweeper.sweep()
        except Unavailable as error:
            log.warning("sweeping waits for the database: %s", error)
