"""Counters: deltas that add up to what the rows say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import delete, insert, update

from models import counters
from models.counters import Counter
from models.job_rows import Job
from models.states import Priority, State
from tests.models.desk import Desk
from tests.rows import LLM, TENANT, at, new_job


def states(desk: Desk, tenant_id: str | None = None) -> dict[counters.Key, int]:
    """The counts."""
    with desk.database.read() as session:
        return counters.states(session, tenant_id)


def test_jobs_are_counted_by_tenant_queue_class_and_state(desk: Desk) -> None:
    """Each job counts once, where it is now; a state that all have left is not shown."""
    desk.submit(new_job(priority=Priority.INTERACTIVE), new_job(), new_job(run_at=at(5)))
    desk.submit(new_job(tenant_id="b", llm="other"))
    assert states(desk) == {
        (TENANT, LLM, 0, "queued"): 1,
        (TENANT, LLM, 1, "queued"): 1,
        (TENANT, LLM, 1, "scheduled"): 1,
        ("b", "other", 1, "queued"): 1,
    }
    desk.claim(1)
    assert states(desk, TENANT) == {
        (TENANT, LLM, 0, "running"): 1,
        (TENANT, LLM, 1, "queued"): 1,
        (TENANT, LLM, 1, "scheduled"): 1,
    }


def test_waiting_jobs_are_counted_by_tenant(desk: Desk) -> None:
    """The queue's limits look at all that waits, scheduled jobs too."""
    with desk.database.read() as session:
        assert counters.waiting(session) == {}
    desk.submit(new_job(), new_job(run_at=at(5)), new_job())
    desk.submit(new_job(tenant_id="b"))
    desk.claim()
    with desk.database.read() as session:
        assert counters.waiting(session) == {TENANT: 2, "b": 1}


def test_a_step_writes_few_rows(desk: Desk) -> None:
    """A transaction adds one row for each count that it changes, however many jobs it moves."""
    desk.submit(*(new_job() for _ in range(20)))
    desk.claim(20)
    assert sorted((row.name, row.amount) for row in desk.all(Counter)) == [
        ("queued", -20), ("queued", 20), ("running", 20),
    ]  # fmt: skip


def test_folding_keeps_the_sums(desk: Desk) -> None:
    """Compaction leaves one row a count, drops those that are nothing, and says how many rows it saved."""
    for _ in range(4):
        desk.submit()
    desk.finish(*desk.claim(2))
    before, rows = states(desk), len(desk.all(Counter))
    saved = desk.do("compact", counters.compact)
    assert states(desk) == before
    assert (len(desk.all(Counter)), rows - saved) == (2, 2)


def test_folding_goes_in_bounded_steps(desk: Desk) -> None:
    """Each step takes rows up to the limit; the sums hold in between."""
    for _ in range(6):
        desk.submit()
    before = states(desk)
    assert desk.do("compact", lambda s: counters.compact(s, limit=3)) == 2
    assert (states(desk), len(desk.all(Counter))) == (before, 4)


def test_folding_gets_on_with_more_counts_than_a_step_takes_rows(desk: Desk) -> None:
    """However few rows a step takes, the last one leaves one row a count."""
    for _ in range(3):
        desk.submit(*(new_job(priority=priority) for priority in Priority))
    before = states(desk)
    while desk.do("compact", lambda s: counters.compact(s, limit=2)):
        assert states(desk) == before
    assert len(desk.all(Counter)) == len(Priority)


def test_counters_hold_while_all_write_at_once(desk: Desk) -> None:
    """Submitting, claiming and folding at the same time neither loses nor doubles a count."""

    def work(number: int) -> None:
        for _ in range(3):
            desk.submit(new_job(), new_job())
            desk.finish(*desk.claim(1, worker=f"worker_{number}"))
            desk.do("compact", counters.compact)

    desk.careful = False
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    desk.check()
    assert states(desk) == {(TENANT, LLM, 1, "queued"): 12, (TENANT, LLM, 1, "succeeded"): 12}


def test_drift_is_seen(desk: Desk) -> None:
    """A count too many, a job too few, a state changed behind the books: each shows with its difference."""
    (job_id,) = desk.submit()
    desk.is_tampered = True
    key = {"tenant_id": TENANT, "llm": LLM, "priority": 1, "name": "running"}
    with desk.database.write() as session:
        session.execute(insert(Counter).values(**key, amount=2))
        assert counters.drift(session) == {(TENANT, LLM, 1, "running"): 2}
        session.execute(update(Job).where(Job.id == job_id).values(state=State.RUNNING))
        assert counters.drift(session) == {(TENANT, LLM, 1, "running"): 1, (TENANT, LLM, 1, "queued"): 1}
        session.execute(delete(Job))
        assert counters.drift(session) == {(TENANT, LLM, 1, "running"): 2, (TENANT, LLM, 1, "queued"): 1}
