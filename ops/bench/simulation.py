"""A discrete-event simulation of many workers at one database, on costs that were measured.

Jobs arrive at random (Poisson) and are stored; workers wait a window, claim as
many as they have rows for, run them, and finish together what ended in the
same step. Each of these is a transaction; one database runs so many at once,
in the order in which they come. What the simulation does not know: that disks
and caches slow down, that transactions wait for each other's rows, networks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from random import Random

import simpy

from ops.bench.statistics import percentile

Steps = Generator[simpy.Event, None, None]


@dataclass(frozen=True)
class Cost:
    """Seconds of a transaction: so many for itself, and so many for each job in it."""

    fixed: float
    each: float

    def of(self, jobs: int) -> float:
        """Seconds of a transaction with so many jobs."""
        return self.fixed + jobs * self.each


@dataclass(frozen=True)
class Plant:
    """One database and the workers at it.

    ``writers`` transactions run at once; ``together`` submissions that meet share one.
    A job runs for ``job_seconds`` in one of a worker's ``rows``; what ends within
    ``step_seconds`` is finished together.
    """

    store: Cost
    claim: Cost
    finish: Cost
    writers: int = 1
    together: int = 64
    workers: int = 1
    rows: int = 64
    window_seconds: float = 0.010
    job_seconds: float = 1.0
    step_seconds: float = 0.020


@dataclass
class Outcome:
    """What a simulation saw: waits from arrival to claim, the time that transactions took, and its length."""

    waits: list[float] = field(default_factory=list)
    busy_seconds: float = 0.0
    seconds: float = 0.0
    left: int = 0
    writers: int = 1

    @property
    def utilisation(self) -> float:
        """The share of the time in which the database wrote."""
        return self.busy_seconds / (self.seconds * self.writers)

    def wait(self, percent: float) -> float:
        """A percentile of the waits, in seconds."""
        return percentile(self.waits, percent)

    @property
    def mean(self) -> float:
        """The mean wait, in seconds."""
        return sum(self.waits) / len(self.waits)


def simulate(plant: Plant, rate: float, jobs: int, seed: int = 1) -> Outcome:
    """Let so many jobs arrive, ``rate`` a second, and work until the last has arrived."""
    return _Run(plant, rate, jobs, Random(seed)).outcome()  # noqa: S311 - nothing secret depends on it


class _Bell:
    """Wakes the one who waits for it; a ring that nobody waits for is kept."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._event = env.event()

    def ring(self) -> None:
        if not self._event.triggered:
            self._event.succeed()

    def wait(self) -> Steps:
        yield self._event
        self._event = self._env.event()


class _Worker:
    """One worker: how many rows are free, what has ended in it, and who is woken by either."""

    def __init__(self, env: simpy.Environment, rows: int) -> None:
        self.room = rows
        self.ended = 0
        self.work = _Bell(env)
        self.over = _Bell(env)


class _Run:
    """The state of one simulation; each method that yields is a process in it."""

    def __init__(self, plant: Plant, rate: float, jobs: int, random: Random) -> None:
        self._plant, self._rate, self._jobs, self._random = plant, rate, jobs, random
        self._env = simpy.Environment()
        self._database = simpy.Resource(self._env, plant.writers)
        self._arrived: deque[float] = deque()
        self._in_line = 0
        self._stored: deque[float] = deque()
        self._workers = deque(_Worker(self._env, plant.rows) for _ in range(plant.workers))
        self._seen = Outcome(writers=plant.writers)

    def outcome(self) -> Outcome:
        """Run to the end of the arrivals; what still waits then has waited at least so long."""
        for worker in self._workers:
            self._env.process(self._dispatch(worker))
            self._env.process(self._record(worker))
        self._env.run(until=self._env.process(self._arrive()))
        left = [*self._stored, *self._arrived]
        self._seen.waits += [self._env.now - since for since in left]
        self._seen.seconds, self._seen.left = self._env.now, len(left)
        return self._seen

    def _arrive(self) -> Steps:
        for _ in range(self._jobs):
            yield self._env.timeout(self._random.expovariate(self._rate))
            self._arrived.append(self._env.now)
            if len(self._arrived) > self._in_line * self._plant.together:
                self._env.process(self._store())

    def _store(self) -> Steps:
        """Who stands in line stores for all that have come meanwhile, as the threads of the API do."""
        some: list[float] = []
        self._in_line += 1
        with self._database.request() as turn:
            yield turn
            self._in_line -= 1
            some += _taken(self._arrived, self._plant.together)
            yield from self._spend(self._plant.store, len(some))
        self._stored.extend(some)
        if some:
            self._hint()

    def _hint(self) -> None:
        """A hint reaches one worker; the next one another."""
        free = (worker for worker in self._workers if worker.room)
        if (worker := next(free, None)) is not None:
            worker.work.ring()
        self._workers.rotate(-1)

    def _dispatch(self, worker: _Worker) -> Steps:
        """Wait for work, keep the window open, claim for as long as there is work and room."""
        while True:
            yield from worker.work.wait()
            yield self._env.timeout(self._plant.window_seconds)
            while self._stored and worker.room:
                yield from self._claim(worker)

    def _claim(self, worker: _Worker) -> Steps:
        with self._database.request() as turn:
            yield turn
            some = _taken(self._stored, worker.room)
            worker.room -= len(some)
            yield from self._spend(self._plant.claim, len(some))
        self._seen.waits += [self._env.now - since for since in some]
        for _ in some:
            self._env.process(self._decode(worker))

    def _decode(self, worker: _Worker) -> Steps:
        """Jobs are of unlike length, and end at the steps of the engine."""
        seconds, step = self._plant.job_seconds * self._random.uniform(0.5, 1.5), self._plant.step_seconds
        end = self._env.now + seconds
        yield self._env.timeout(seconds + (-end % step if step else 0.0))
        worker.ended += 1
        worker.over.ring()

    def _record(self, worker: _Worker) -> Steps:
        """Finish in one transaction whatever has ended; then there is room for as many."""
        while True:
            yield from worker.over.wait()
            with self._database.request() as turn:
                yield turn
                ended, worker.ended = worker.ended, 0
                yield from self._spend(self._plant.finish, ended)
            worker.room += ended
            worker.work.ring()

    def _spend(self, cost: Cost, jobs: int) -> Steps:
        if jobs:
            self._seen.busy_seconds += cost.of(jobs)
            yield self._env.timeout(cost.of(jobs))


def _taken(queue: deque[float], most: int) -> list[float]:
    return [queue.popleft() for _ in range(min(most, len(queue)))]
