"""Lists of jobs: filters, pages, and what belongs to each job."""

from __future__ import annotations

import pytest

from models import listing, workers
from models.job_rows import Job
from models.listing import Filters
from models.states import Priority, State
from tests.models.desk import Desk
from tests.rows import LLM, TENANT, USAGE, at, new_job, new_llm


def listed(desk: Desk, tenant_id: str = TENANT, **narrow: object) -> list[str]:
    """The ids of a tenant's jobs that a filter lets through."""
    with desk.database.read() as session:
        found = listing.page(session, tenant_id, Filters(**narrow), None, 100)  # type: ignore[arg-type]  # any filter
        return [job.id for job in found.jobs]


def test_the_newest_job_comes_first(desk: Desk) -> None:
    """Jobs stand in reverse order of submission, without staged ones and those of other tenants."""
    ids = desk.submit(new_job(), new_job())
    desk.submit(new_job(tenant_id="b"))
    desk.stage(new_job())
    assert listed(desk) == ids[::-1]


def test_each_filter_narrows(desk: Desk) -> None:
    """State, agent, LLM, tag, priority, bulk and time let through what they name, and together only both."""
    (plain,) = desk.submit()
    (marked,) = desk.submit(new_job(agent="ada", tags=("x", "y"), priority=Priority.INTERACTIVE))
    (other,) = desk.submit(new_job(llm="other", tags=("x",)))
    bulk = desk.stage(new_job())
    desk.wait(10)
    desk.publish(bulk)
    (late,) = desk.submit(new_job(run_at=at(99)))
    (of_bulk,) = [job.id for job in desk.all(Job, bulk_id=bulk.id)]
    assert listed(desk, states=(State.SCHEDULED,)) == [late]
    assert listed(desk, states=(State.SCHEDULED, State.RUNNING)) == [late]
    assert listed(desk, agent="ada") == listed(desk, priority=Priority.INTERACTIVE) == [marked]
    assert listed(desk, llm="other") == [other]
    assert listed(desk, tag="x") == [other, marked]
    assert listed(desk, tag="y", llm="other") == []
    assert listed(desk, bulk_id=bulk.id) == [of_bulk]
    assert listed(desk, created_after=at(10)) == [late]
    assert listed(desk, created_before=at(10)) == [of_bulk, other, marked, plain]


def test_tags_are_a_tenants_own(desk: Desk) -> None:
    """The same tag at another tenant shows nothing of it."""
    desk.submit(new_job(tags=("x",)))
    (theirs,) = desk.submit(new_job(tenant_id="b", tags=("x",)))
    assert listed(desk, "b", tag="x") == [theirs]


@pytest.mark.parametrize(
    "text",
    ["100%", "a_b", "C:\\temp", 'say "hi"', "two\nlines", "tab\there", "50/50", "grün", "LOUD", "loud"],
)
def test_text_is_found_as_it_is_written(desk: Desk, text: str) -> None:
    """Signs that mean something to SQL or to JSON stand for themselves; case does not matter."""
    (wanted,) = desk.submit(new_job(f"before {text if text != 'loud' else 'LouD'} after"))
    desk.submit(new_job("before 1000 aXb C:temp say hi two lines 50 gron after"))
    assert listed(desk, text=text) == [wanted]


def test_text_is_looked_for_in_ids_and_errors_too(desk: Desk) -> None:
    """A piece of an id or of an error message finds its job."""
    ids = desk.submit(new_job(), new_job())
    desk.finish(desk.take(), state=State.FAILED, error_message="the moon_was full")
    desk.finish(desk.take(), state=State.FAILED, error_message="the moon was full")
    assert listed(desk, text=ids[1][-12:]) == [ids[1]]
    assert listed(desk, text="Moon_") == [ids[0]]
    assert listed(desk, text="moonX") == []


def test_pages_follow_each_other_without_gap_or_double(desk: Desk) -> None:
    """Each page begins behind the last row of the one before, also when jobs come and go in between."""
    ids = desk.submit(*(new_job() for _ in range(7)))
    desk.finish(*desk.claim(7))
    seen: list[str] = []
    before: int | None = None
    while True:
        with desk.database.read() as session:
            page = listing.page(session, TENANT, Filters(), before, 3)
        seen += [job.id for job in page.jobs]
        if (before := page.last) is None:
            break
        desk.submit()
        desk.remove(page.jobs[0].id)
    assert seen == ids[::-1]


def test_one_look_for_a_text_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page looks through a number of jobs that pass the other filters, and the next goes on there."""
    monkeypatch.setattr(listing, "SCAN", 3)
    wanted, also = desk.submit(new_job("needle"), new_job("needle"))
    desk.submit(*(new_job() for _ in range(2)), *(new_job(llm="other") for _ in range(9)))
    narrow = Filters(llm=LLM, text="needle")
    with desk.database.read() as session:
        first = listing.page(session, TENANT, narrow, None, 3)
        rest = listing.page(session, TENANT, narrow, first.last, 3)
    assert [job.id for job in first.jobs] == [also]
    assert [job.id for job in rest.jobs] == [wanted]
    assert rest.last is None


def test_details_belong_to_their_jobs(desk: Desk) -> None:
    """Results and bills stand with ended jobs, a place and an estimate with those that can be claimed."""
    done, failed, later, waits, runs = desk.submit(
        new_job(), new_job(), new_job(run_at=at(9)), new_job(), new_job(priority=Priority.INTERACTIVE)
    )
    (claim,) = desk.claim()
    assert claim.job_id == runs
    desk.finish(desk.take())
    desk.fail(desk.take(), pause=None)
    with desk.database.write() as session:
        workers.publish_llm(session, new_llm(jobs_per_second=0.5))
    with desk.database.read() as session:
        found = listing.details(session, [desk.job(job_id) for job_id in (waits, done, failed, later, runs)])
    assert [each.job.id for each in found] == [waits, done, failed, later, runs]
    assert [each.position for each in found] == [1, None, None, None, None]
    assert [each.eta_seconds for each in found] == [2.0, None, None, None, None]
    assert [each.result is not None for each in found] == [False, True, False, False, False]
    assert [each.cost.amount if each.cost else None for each in found] == [
        None,
        USAGE.amount,
        None,
        None,
        None,
    ]


def test_no_estimate_without_a_rate(desk: Desk) -> None:
    """Before any job has ended nothing is known of how quickly they end."""
    (job_id,) = desk.submit()
    with desk.database.write() as session:
        workers.publish_llm(session, new_llm())
        (found,) = listing.details(session, [desk.job(job_id)])
    assert (found.position, found.eta_seconds) == (1, None)


def test_versions_rise_with_each_change_of_state(desk: Desk) -> None:
    """Who waits for a change sees each one, and whether it was the last."""
    (job_id,) = desk.submit()

    def version() -> tuple[int, bool]:
        with desk.database.read() as session:
            return listing.versions(session, [job_id, "job_none"])[job_id]

    assert version() == (1, False)
    claim = desk.take()
    assert version() == (2, False)
    desk.request_cancel(job_id)
    assert version() == (3, False)
    desk.finish(claim, state=State.CANCELLED)
    assert version() == (4, True)
