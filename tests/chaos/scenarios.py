"""What is done to a service while clients submit: one function a fault, each ends when it has happened."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from sqlalchemy import func, select

from models.audit import Audit
from models.job_rows import Job
from models.states import State
from models.workers import Worker
from tests.chaos.faults import busy_storm, full_disk
from tests.chaos.rig import OWNERS, Rig, await_calmly, wait_until
from tests.chaos.stores import Store

HOUR = 3600.0
FREEZES = 20
ANYWHERE = 3
"""Every so many kills one falls anywhere, at any moment."""

Scenario = Callable[[Rig, Store, Random, int], None]


def killed(rig: Rig, _store: Store, rng: Random, count: int) -> None:
    """Processes are killed: within each phase in turn, and now and then anywhere at all."""
    phases = list(OWNERS)
    for number in range(count):
        if number % len(phases) == 0:
            rng.shuffle(phases)
        rig.strike(phases[number % len(phases)], rng)
        if number % ANYWHERE == 0:
            time.sleep(rng.random())
            rig.actors[rng.choice(list(rig.actors))].kill()


def frozen(rig: Rig, _store: Store, _rng: Random, count: int) -> None:
    """A worker stands still beyond its lease while it holds jobs, and wakes when others have them.

    Again, until results came too late: it may have stood still between two jobs, or with SQLite's lock
    in its hand, so that everybody stood still with it.
    """
    actor = rig.actors["inference"]
    for _ in range(FREEZES):
        wait_until(lambda: _holds(rig, actor.child.pid))
        actor.send(signal.SIGSTOP)
        await_calmly(lambda: not _stands(rig, actor.child.pid), 3 * rig.lease_seconds)
        actor.send(signal.SIGCONT)
        if await_calmly(lambda: _late(rig) >= count, rig.lease_seconds):
            return
    raise AssertionError("no result ever came late")


def _row(rig: Rig, pid: int | None) -> Worker | None:
    with rig.database.read() as session:
        query = select(Worker).where(Worker.pid == pid, Worker.ended_at.is_(None))
        return session.scalars(query.order_by(Worker.started_at.desc())).first()


def _stands(rig: Rig, pid: int | None) -> bool:
    return _row(rig, pid) is not None


def _holds(rig: Rig, pid: int | None) -> bool:
    worker = _row(rig, pid)
    if worker is None:
        return False
    with rig.database.read() as session:
        held = select(func.count()).where(Job.worker_id == worker.id, Job.state == State.RUNNING)
        return (session.scalar(held) or 0) > 0


def _late(rig: Rig) -> int:
    with rig.database.read() as session:
        return session.scalar(select(func.count()).where(Audit.action == "job.late_result")) or 0


def redis_lost(rig: Rig, store: Store, rng: Random, count: int) -> None:
    """Redis forgets everything, goes away and comes back, and loses requests and replies meanwhile."""
    assert store.valkey is not None
    assert store.proxy is not None
    store.proxy.share = 0.05
    for _ in range(count):
        store.flush_redis()
        time.sleep(rng.random())
        store.valkey.stop()
        time.sleep(rng.random() * 2)
        store.valkey.start()
        time.sleep(rng.random())
    wait_until(lambda: store.proxy is not None and store.proxy.cuts > 0)
    store.proxy.share = 0.0


def postgres_restarted(_rig: Rig, store: Store, rng: Random, count: int) -> None:
    """The database goes away in the middle of everything, and comes back."""
    for _ in range(count):
        store.restart_postgres()
        time.sleep(0.5 + rng.random())


def lock_taken(rig: Rig, _store: Store, rng: Random, count: int) -> None:
    """Another program holds SQLite's write lock most of the time."""
    with busy_storm(_file(rig), rng, longest_seconds=0.3):
        time.sleep(count)


def disk_full(rig: Rig, _store: Store, rng: Random, count: int) -> None:
    """There is no room for anything, for a while."""
    for _ in range(count):
        with full_disk(rig.folder):
            time.sleep(2 + rng.random())
        time.sleep(1)


def clock_wrong(rig: Rig, _store: Store, rng: Random, count: int) -> None:
    """The time of day of one process jumps an hour ahead, an hour back, and is right again."""
    for number in range(count):
        actor = rig.actors[list(rig.actors)[number % len(rig.actors)]]
        for seconds in (HOUR, -HOUR, 0.0):
            actor.marks.shift_clock(seconds)
            time.sleep(0.5 + rng.random())


def _file(rig: Rig) -> Path:
    return rig.folder / "penstock.db"
