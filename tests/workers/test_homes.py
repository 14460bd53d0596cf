"""Agents come back to the worker that served them, and wait for it only so long."""

from __future__ import annotations

from collections import Counter

from models.job_rows import Job
from workers.homes import Homes, home

FLEET = ("worker_a", "worker_b", "worker_c", "worker_d")


class Clock:
    """Time that moves when told to."""

    now = 0.0

    def __call__(self) -> float:
        """The time, in seconds."""
        return self.now


def job(agent: str | None, job_id: str = "job_1") -> Job:
    """A job of an agent."""
    return Job(id=job_id, tenant_id="default", agent=agent)


def agent_of(worker: str, fleet: tuple[str, ...] = FLEET) -> str:
    """An agent whose home is that worker."""
    return next(name for number in range(1000) if home("default", name := f"agent-{number}", fleet) == worker)


def homes(me: str, *fleet: str) -> tuple[Homes, Clock]:
    """What one worker of a fleet knows, waiting two seconds."""
    clock = Clock()
    known = Homes(2.0, clock)
    known.know(me, fleet)
    return known, clock


def test_agents_are_spread_over_the_fleet() -> None:
    """Each of four workers is the home of about a quarter of many agents."""
    counts = Counter(home("default", f"agent-{number}", FLEET) for number in range(4000))
    assert set(counts) == set(FLEET)
    assert all(850 < count < 1150 for count in counts.values())


def test_only_the_agents_of_a_lost_worker_move() -> None:
    """When one of four goes, all others keep their homes."""
    names = [f"agent-{number}" for number in range(500)]
    before = {name: home("default", name, FLEET) for name in names}
    after = {name: home("default", name, FLEET[:3]) for name in names}
    assert {name for name in names if before[name] != after[name]} == {
        name for name in names if before[name] == FLEET[3]
    }


def test_a_job_is_left_to_its_home_for_a_while() -> None:
    """Others leave it for the time set, and not a moment longer; its home never does."""
    agent = agent_of("worker_a")
    other, clock = homes("worker_b", *FLEET)
    mine, _ = homes("worker_a", *FLEET)
    assert other.leaves(job(agent))
    clock.now = 1.9
    assert other.leaves(job(agent))
    clock.now = 2.0
    assert not other.leaves(job(agent))
    assert not mine.leaves(job(agent))


def test_the_next_turn_is_waited_for_anew() -> None:
    """A job that was taken for want of its home says nothing about the agent's next one."""
    agent = agent_of("worker_a")
    other, clock = homes("worker_b", *FLEET)
    assert other.leaves(job(agent))
    clock.now = 5.0
    assert not other.leaves(job(agent))
    assert not other.leaves(job(agent))  # also when it could not be taken the first time
    assert other.leaves(job(agent, "job_2"))


def test_nobody_waits_where_there_is_nobody_to_wait_for() -> None:
    """Jobs of no agent, and a worker that is alone, know no homes."""
    alone, _ = homes("worker_b", "worker_b")
    among, _ = homes("worker_b", *FLEET)
    assert not alone.leaves(job("ada"))
    assert not among.leaves(job(None))
    assert (alone.look_seconds, among.look_seconds) == (None, 0.25)
