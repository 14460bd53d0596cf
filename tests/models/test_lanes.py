"""Lanes: which there are, found without walking, and jobs that change theirs."""

from __future__ import annotations

from sqlalchemy import update

from models import lanes
from models.database import Database
from models.job_rows import Job
from models.states import Priority, State
from tests.models.desk import Desk
from tests.models.test_plans import plans
from tests.rows import LLM, TENANT, at, new_job


def put(desk: Desk, lane: str, *job_ids: str) -> None:
    """Let jobs stand in a lane."""
    with desk.database.write() as session:
        session.execute(update(Job).where(Job.id.in_(job_ids)).values(lane=lane))


def found(desk: Desk, llm: str = LLM) -> list[str]:
    """The lanes of a queue."""
    with desk.database.read() as session:
        return lanes.lanes(session, llm)


def test_each_lane_with_claimable_jobs_is_found_once(desk: Desk) -> None:
    """However many jobs a lane holds, it is named once, in order; lanes of other queues are not."""
    ids = desk.submit(*(new_job() for _ in range(6)), new_job(llm="other"))
    assert found(desk) == [""]
    put(desk, "b", *ids[2:4])
    put(desk, "a", ids[4])
    put(desk, "c", ids[6])
    assert (found(desk), found(desk, "other"), found(desk, "none")) == (["", "a", "b"], ["c"], [])


def test_lanes_without_claimable_jobs_are_not_found(desk: Desk) -> None:
    """Jobs that run, or wait for their time or for their agent, make no lane."""
    first, later, behind = desk.submit(new_job(agent="ada"), new_job(run_at=at(5)), new_job(agent="ada"))
    for lane, job_id in (("a", first), ("b", later), ("c", behind)):
        put(desk, lane, job_id)
    assert found(desk) == ["a"]
    desk.take()
    assert found(desk) == []


def test_llms_with_claimable_jobs_are_found(desk: Desk) -> None:
    """Each LLM whose queue has something to claim is named once, in order."""
    desk.submit(new_job(llm="b"), new_job(llm="a"), new_job(llm="b"), new_job(llm="c", run_at=at(5)))
    with desk.database.read() as session:
        assert lanes.llms(session) == ["a", "b"]


def test_looks_are_steps_into_the_index(sqlite_database: Database) -> None:
    """SQLite seeks each next value in the claim index: it neither walks over jobs nor sorts them."""
    Desk(sqlite_database).submit(new_job())
    claim_index = "jobs USING INDEX ix_jobs_claim"
    with plans(sqlite_database) as steps, sqlite_database.read() as session:
        assert lanes.lanes(session, LLM) == [""]
        first, following = (step for step in steps if " jobs " in step)
        assert (first, following) == (
            f"SEARCH {claim_index} (llm=?)",
            f"SEARCH {claim_index} (llm=? AND lane>?)",
        )
        steps.clear()
        assert lanes.llms(session) == [LLM]
        first, following = (step for step in steps if " jobs " in step)
        assert (first, following) == (
            f"SCAN {claim_index}",
            f"SEARCH {claim_index} (llm>?)",
        )  # a scan of one row
    assert not [step for step in steps if "TEMP B-TREE" in step]


def test_jobs_that_have_not_ended_change_lanes(desk: Desk) -> None:
    """Waiting, running and staged jobs of the tenant move, in batches that go on where the last ended."""
    ended, running, *waiting = desk.submit(*(new_job() for _ in range(5)), new_job(run_at=at(9)))
    desk.finish(desk.take())
    assert desk.take().job_id == running
    (others,) = desk.submit(new_job(tenant_id="b"))
    bulk = desk.stage(new_job())
    (staged,) = (job.id for job in desk.all(Job, bulk_id=bulk.id))
    seen: list[str] = []
    for state in lanes.UNFINISHED:
        after = 0
        while some := look(desk, state, after):
            after = some[-1][0]
            seen += [job_id for _, job_id in some]
            with desk.database.write() as session:
                lanes.move(session, [job_id for _, job_id in some], TENANT)
    assert sorted(seen) == sorted([running, *waiting, staged])
    assert {desk.job(job_id).lane for job_id in seen} == {TENANT}
    assert [desk.job(job_id).lane for job_id in (ended, others)] == ["", ""]


def look(desk: Desk, state: State, after: int) -> list[tuple[int, str]]:
    """The next two jobs of the default tenant that are not in its lane."""
    with desk.database.read() as session:
        return lanes.astray(session, TENANT, TENANT, state, after, limit=2)


def test_a_job_that_has_ended_meanwhile_stays_where_it_is(desk: Desk) -> None:
    """What ended between the look and the move is left alone, and not counted."""
    first, second = desk.submit(new_job(), new_job())
    desk.cancel(first)
    with desk.database.write() as session:
        assert lanes.move(session, [first, second], "a") == 1
    assert [desk.job(job_id).lane for job_id in (first, second)] == ["", "a"]


def freed(desk: Desk, *job_ids: str) -> list[str]:
    """Ids of the jobs elsewhere that may run when some have ended."""
    with desk.database.read() as session:
        return lanes.freed(session, [desk.job(job_id) for job_id in job_ids])


def test_an_end_lets_jobs_of_its_lane_run_in_other_queues(desk: Desk) -> None:
    """The first of the lane in each other LLM is named; its own queue and other lanes are not."""
    desk.limit(TENANT, 1)
    desk.limit("b", 1)
    ended, _ = desk.submit(new_job(), new_job())
    desk.submit(new_job(llm="other", priority=Priority.BACKGROUND), new_job(llm="third", run_at=at(9)))
    first, _, last = desk.submit(*(new_job(llm=llm) for llm in ("other", "other", "zero")))
    (others,) = desk.submit(new_job(llm="other", tenant_id="b"))
    desk.finish(desk.take())
    assert freed(desk, ended) == [first, last]
    assert freed(desk, ended, others) == [first, last]
    assert freed(desk, others) == []


def test_jobs_that_end_in_several_queues_free_each_other(desk: Desk) -> None:
    """When jobs of one lane end in two queues at once, what waits in either is named, once."""
    desk.limit(TENANT, 4)
    one, two, here, there = desk.submit(*(new_job(llm=llm) for llm in ("a", "b", "a", "b")))
    desk.finish(*desk.claim(llm="a"), *desk.claim(llm="b"))
    assert freed(desk, one, two) == [here, there]


def test_ends_in_the_shared_lane_free_nobody(sqlite_database: Database) -> None:
    """Where no tenant is limited nothing is asked of the database."""
    desk = Desk(sqlite_database)
    ended, _ = (desk.job(job_id) for job_id in desk.submit(new_job(), new_job(llm="other")))
    with plans(sqlite_database) as steps, sqlite_database.read() as session:
        assert lanes.freed(session, [ended]) == []
    assert steps == []


def test_what_an_end_frees_is_found_by_steps(sqlite_database: Database) -> None:
    """Each other LLM is one step into the claim index, and the first job of the lane in it another."""
    desk = Desk(sqlite_database)
    desk.limit(TENANT, 1)
    ended, *_ = (desk.job(job_id) for job_id in desk.submit(new_job(), *[new_job(llm="other")] * 3))
    with plans(sqlite_database) as steps, sqlite_database.read() as session:
        assert len(lanes.freed(session, [ended])) == 1
    assert "SEARCH jobs USING INDEX ix_jobs_claim (llm=? AND lane=?)" in steps
    assert not [step for step in steps if "TEMP B-TREE" in step]
