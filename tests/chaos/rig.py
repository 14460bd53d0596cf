"""A service of real processes that are started again whenever they die, and a way to make them die."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Self

import httpx2
from sqlalchemy import select

import migrations
from models import keys, tenants
from models.base import utcnow
from models.database import Database
from models.workers import Worker
from ops.addresses import claim_port
from ops.lifeline import Lifeline
from ops.service import alone
from ops.supervisor.child import Child, Program
from ops.supervisor.up import variables
from tests.chaos.marks import PHASES, Marks

PATIENCE = 180.0
"""Seconds after which something that must come true counts as never."""

OWNERS = {
    "submit": "api",
    "claim": "inference",
    "prefill": "inference",
    "decode": "inference",
    "finish": "inference",
    "delivery": "inference",
    "sweep": "errands",
}
"""The process in which each phase takes place."""

MOST_STEPS = 12
"""Of a phase's statements a kill may hit any of the first so many."""

SETTINGS: dict[str, Any] = {
    "engine.backend": "fake",
    "engine.max_rows": 32,
    "llms.pico.path": "fake:step_ms=4",
    "queue.max_attempts": 20,
    "queue.backoff_seconds": 0.05,
    "queue.backoff_max_seconds": 0.5,
    "worker.heartbeat_ms": 100,
    "worker.lease_seconds": 3,
    "worker.sweep_ms": 100,
    "worker.rehint_seconds": 1,
    "worker.look_seconds": 1,
    "worker.grace_seconds": 5,
    "broker.lease_seconds": 2,
}


class Actor:
    """One process of the service, with its marks."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str], lifeline: Lifeline) -> None:
        self.name = name
        file = folder / f"{name}.marks"
        self.marks = Marks(file)
        kind = name.rstrip("0123456789")
        command = (kind,) if kind == "api" else ("worker", kind)
        program = Program(
            name, (sys.executable, "-P", "-m", "tests.chaos.process", str(file), *command), environment
        )
        self.child = Child(program, folder / f"{name}.log", lifeline)
        self.kills: Counter[str] = Counter()
        self.deaths = 0
        self.crashes = 0

    def start(self) -> None:
        """Start it, anew if it has died."""
        self.child.start()

    def bury(self) -> None:
        """Note in what phase it died, and that the order has been obeyed."""
        if self.child.ended() == -signal.SIGKILL:
            self.kills[self.marks.armed or self.marks.phase] += 1
        else:
            self.crashes += 1
        self.marks.reset()
        self.deaths += 1

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.child.pid is not None and self.child.lives:
            os.kill(self.child.pid, number)

    def kill(self) -> None:
        """Kill it wherever it is."""
        self.send(signal.SIGKILL)


class Rig:
    """The processes of a service on some database and broker; ends with its ``with`` block.

    The inference workers serve the aliases of ``serves`` in turn.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], inference: int = 1, serves: Sequence[str] = ("pico",)
    ) -> None:
        self.folder = folder
        port = claim_port("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{port}"
        asked = {**alone(folder), **SETTINGS, **settings, "server.port": port}
        self.database = Database.connect(str(asked["database.url"]))
        self.lease_seconds = float(asked["worker.lease_seconds"])
        self.key = self._prepare()
        (folder / "metrics").mkdir()
        environment = {**variables(asked), "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics")}
        self._lifeline = Lifeline()
        self.actors = {name: Actor(name, folder, environment, self._lifeline) for name in ("api", "errands")}
        for number in range(inference):
            served = variables({"worker.llms": serves[number % len(serves)]})
            name = f"inference{number or ''}"
            self.actors[name] = Actor(name, folder, environment | served, self._lifeline)
        self._stopping = threading.Event()
        self._nurse = threading.Thread(target=self._revive, name="nurse", daemon=True)

    def _prepare(self) -> str:
        migrations.upgrade(self.database)
        with self.database.write() as session:
            tenants.ensure(session, tenants.DEFAULT_TENANT, utcnow())
            return keys.create(session, tenants.DEFAULT_TENANT, "chaos", utcnow())

    def __enter__(self) -> Self:
        for actor in self.actors.values():
            actor.start()
        self._nurse.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._nurse.join()
        for actor in self.actors.values():
            actor.send(signal.SIGCONT)
            actor.child.terminate()
        for actor in self.actors.values():
            actor.child.wait(20)
            actor.marks.close()
        self._lifeline.close()
        self.database.close()

    def _revive(self) -> None:
        """Start again what has died, as a supervisor does."""
        while not self._stopping.wait(0.02):
            for actor in self.actors.values():
                if actor.child.ended() is not None:
                    actor.bury()
                    actor.start()

    @property
    def kills(self) -> Counter[str]:
        """How often a process was killed in each phase."""
        return sum((actor.kills for actor in self.actors.values()), Counter())

    def answers(self) -> bool:
        """Whether the API takes jobs."""
        try:
            return httpx2.get(f"{self.url}/health/live", timeout=1, trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    def serving(self) -> dict[str, str]:
        """The living inference workers that have loaded their LLM, and its alias."""
        with self.database.read() as session:
            query = select(Worker.id, Worker.llm).where(Worker.ended_at.is_(None), Worker.llm.is_not(None))
            return {worker_id: str(llm) for worker_id, llm in session.execute(query)}

    def strike(self, phase: str, rng: Random) -> None:
        """Have the owner of a phase die at a random step of it; returns when it is dead."""
        actor = self.actors[OWNERS[phase]]
        deaths = actor.deaths
        actor.marks.arm(phase, rng.randrange(MOST_STEPS))
        wait_until(lambda: actor.deaths > deaths)


def await_calmly(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait for something that may come true; says whether it did in time."""
    give_up = time.monotonic() + seconds
    while not (come := holds()) and time.monotonic() < give_up:
        time.sleep(0.01)
    return come


def wait_until(holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for something that must come true.

    Raises:
        AssertionError: it does not in time.
    """
    assert await_calmly(holds, seconds), "gave up waiting"


assert set(OWNERS) == set(PHASES) - {"idle"}, "every phase has an owner"
