"""The rules that the rows must follow, and that each of them is noticed when it is broken."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from models import commands
from models.books import SAMPLES, check_integrity
from models.commands import Kind
from models.states import State
from tests.models.desk import WORKER, Desk
from tests.rows import LLM, TENANT, new_job, new_worker

TAMPERINGS = {
    "a job has a time of its end if and only if it has ended":
        "UPDATE jobs SET finished_at = NULL WHERE state = 'failed'",
    "a job asks something": "DELETE FROM payloads",
    "a job has no more failures than attempts": "UPDATE jobs SET failures = max_attempts + 1",
    "only queued jobs that are published can be claimed":
        "UPDATE jobs SET claimable = (1 = 1) WHERE state = 'succeeded'",
    "a job runs under a worker, and no other does":
        "UPDATE jobs SET worker_id = NULL WHERE state = 'running'",
    "a job that succeeded has a result": "DELETE FROM results",
    "a job that succeeded is billed": "DELETE FROM costs",
    "only jobs that ended have a result":
        "INSERT INTO results SELECT id, tenant_id, '', NULL, 'stop', created_at FROM jobs"
        " WHERE state = 'running'",
    "only jobs that ended are billed":
        "UPDATE costs SET job_id = (SELECT id FROM jobs WHERE state = 'running' LIMIT 1)"
        " WHERE id = (SELECT min(id) FROM costs WHERE billable)",
    "a job ends once":
        "INSERT INTO events (tenant_id, job_id, type, data, created_at)"
        " SELECT tenant_id, job_id, type, data, created_at FROM events",
    "what is not billed costs nothing": "UPDATE costs SET billable = (1 = 0), amount = 1",
    "an attempt goes on only while its job runs under its fence": "UPDATE attempts SET ended_at = NULL",
    "a running job has an attempt": "DELETE FROM attempts",
    "a queued job of no agent can be claimed": "UPDATE jobs SET claimable = (1 = 0) WHERE agent IS NULL",
    "an agent's first job can be claimed": "UPDATE jobs SET claimable = (1 = 0) WHERE agent IS NOT NULL",
    "a bulk has no more jobs than were sent": "UPDATE bulks SET total = 0",
    "a command has a time of its end if and only if it has ended":
        "UPDATE commands SET ended_at = NULL WHERE state = 'done'",
    "a command is taken, and no longer waits": "UPDATE commands SET taken_by = NULL WHERE state = 'running'",
    "a command runs only on a worker that lives": "UPDATE workers SET ended_at = started_at",
    "counters equal rows": "DELETE FROM counters",
}  # fmt: skip


def fill(desk: Desk) -> None:
    """Jobs in every state, of agents and of a bulk; commands in every state."""
    desk.publish(desk.stage(new_job(), new_job()))
    desk.submit(*(new_job() for _ in range(6)), new_job(agent="anna"), new_job(agent="anna"))
    first, second, third, _ = desk.claim(4)
    desk.finish(first)
    desk.finish(second, state=State.FAILED)
    desk.fail(third)
    desk.cancel(desk.submit()[0])
    with desk.database.write() as session:
        session.add(new_worker(id=WORKER))
        for _ in range(4):
            commands.issue(session, TENANT, LLM, Kind.SAVE, {"owner": "default/anna"}, desk.now)
        done, failed, _ = commands.take(session, WORKER, LLM, desk.now, 3)
        commands.finish(session, done.id, WORKER, {}, desk.now)
        commands.fail(session, failed.id, WORKER, "no", desk.now)


def broken(desk: Desk) -> list[str]:
    """The rules that do not hold."""
    with desk.database.read() as session:
        return [breach.rule for breach in check_integrity(session)]


def test_what_the_models_do_is_sound(desk: Desk) -> None:
    """Jobs in every state break no rule."""
    fill(desk)
    assert broken(desk) == []


@pytest.mark.parametrize("rule", TAMPERINGS)
def test_each_rule_is_noticed(desk: Desk, rule: str) -> None:
    """A row that breaks a rule is found and named."""
    fill(desk)
    desk.is_tampered = True
    with desk.database.write() as session:
        session.execute(text(TAMPERINGS[rule]))
    assert rule in broken(desk)


def test_offenders_are_counted_and_some_named(desk: Desk) -> None:
    """Of many offenders all are counted and a few are named."""
    ids = desk.submit(*(new_job() for _ in range(SAMPLES + 3)))
    desk.is_tampered = True
    with desk.database.write() as session:
        session.execute(text("DELETE FROM payloads"))
    with desk.database.read() as session:
        (breach,) = check_integrity(session)
    assert (breach.count, len(breach.samples)) == (SAMPLES + 3, SAMPLES)
    assert set(breach.samples) < set(ids)
