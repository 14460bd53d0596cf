"""Lists of jobs: filters, pages, and what belongs to each job."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

import pytest

from models import listing, workers
from models.base import utcnow
from models.finding import Filters
from models.job_rows import Job
from models.listing import Count
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
    desk.now = begun = utcnow()
    (plain,) = desk.submit()
    (marked,) = desk.submit(new_job(agent="ada", tags=("x", "y"), priority=Priority.INTERACTIVE))
    (other,) = desk.submit(new_job(llm="other", tags=("x",)))
    bulk = desk.stage(new_job())
    desk.wait(10)
    desk.publish(bulk)
    (late,) = desk.submit(new_job(run_at=begun + timedelta(seconds=99)))
    (of_bulk,) = [job.id for job in desk.all(Job, bulk_id=bulk.id)]
    assert listed(desk, states=(State.SCHEDULED,)) == [late]
    assert listed(desk, states=(State.SCHEDULED, State.RUNNING)) == [late]
    assert listed(desk, agent="ada") == listed(desk, priority=Priority.INTERACTIVE) == [marked]
    assert listed(desk, llm="other") == [other]
    assert listed(desk, tag="x") == [other, marked]
    assert listed(desk, tag="y", llm="other") == []
    assert listed(desk, bulk_id=bulk.id) == [of_bulk]
    split = begun + timedelta(seconds=10)
    assert listed(desk, created_after=split) == [late]
    assert listed(desk, created_before=split) == [of_bulk, other, marked, plain]


def test_tags_are_a_tenants_own(desk: Desk) -> None:
    """The same tag at another tenant shows nothing of it."""
    desk.submit(new_job(tags=("x",)))
    (theirs,) = desk.submit(new_job(tenant_id="b", tags=("x",)))
    assert listed(desk, "b", tag="x") == [theirs]


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


def walked(desk: Desk, limit: int, **narrow: object) -> tuple[list[str], int]:
    """All jobs that a filter lets through, page by page, and how many pages that were."""
    seen: list[str] = []
    before: int | None = None
    for number in count(1):
        with desk.database.read() as session:
            page = listing.page(session, TENANT, Filters(**narrow), before, limit)  # type: ignore[arg-type]  # any filter
        seen += [job.id for job in page.jobs]
        if (before := page.last) is None:
            return seen, number
    raise AssertionError


@pytest.mark.parametrize(
    "narrow",
    [
        {"llm": "rare"},
        {"llm": "rare", "agent": "ada"},
        {"llm": "rare", "tag": "x"},
        {"llm": "rare", "states": (State.QUEUED, State.SCHEDULED)},
    ],
)
def test_one_page_looks_at_so_many_jobs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, narrow: dict[str, object]
) -> None:
    """Where a rare job is far behind, pages come short, and following them finds it."""
    monkeypatch.setattr(listing, "LOOK", 4)
    (wanted,) = desk.submit(new_job(llm="rare", agent="ada", tags=("x",)))
    desk.submit(*(new_job(agent="ada", tags=("x",)) for _ in range(9)))
    assert walked(desk, 1, **narrow) == ([wanted], 3)


def test_of_two_ways_the_shorter_is_taken(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent with few jobs and a tag with many, or the other way round: one page tells."""
    monkeypatch.setattr(listing, "LOOK", 4)
    few, also = desk.submit(new_job(agent="ada", tags=("x",)), new_job(agent="bob", tags=("y",)))
    desk.submit(*(new_job(tags=("x",)) for _ in range(9)), *(new_job(agent="bob") for _ in range(9)))
    assert walked(desk, 1, agent="ada", tag="x") == ([few], 1)
    assert walked(desk, 1, agent="bob", tag="y") == ([also], 1)


def test_an_agent_is_listed_with_what_has_ended(desk: Desk) -> None:
    """Jobs of an agent that go on and such that have ended come in one order, and either alone."""
    first, second, third, fourth = desk.submit(*(new_job(agent="ada") for _ in range(4)))
    desk.finish(desk.take())
    desk.cancel(third)
    assert listed(desk, agent="ada") == [fourth, third, second, first]
    assert listed(desk, agent="ada", states=(State.QUEUED,)) == [fourth, second]
    assert listed(desk, agent="ada", states=(State.SUCCEEDED, State.QUEUED)) == [fourth, second, first]
    assert listed(desk, agent="ada", states=(State.CANCELLED,)) == [third]


def test_times_are_exact_when_ids_are_not(desk: Desk) -> None:
    """What ids tell of times is a hint: within the slack, jobs are told apart by their own times."""
    made, times = [], []
    desk.now = utcnow()
    for _ in range(5):  # each a second after the other, in no time
        made += desk.submit()
        times.append(desk.now)
        desk.wait(1)
    day = timedelta(days=1)
    assert listed(desk, created_after=times[2]) == made[:1:-1]
    assert listed(desk, created_before=times[2]) == made[1::-1]
    assert listed(desk, created_after=times[1], created_before=times[3]) == made[2:0:-1]
    assert listed(desk, created_after=times[0] + day) == listed(desk, created_before=times[0] - day) == []


def counted(desk: Desk, **narrow: object) -> Count:
    """How many jobs a filter lets through."""
    with desk.database.read() as session:
        return listing.count(session, TENANT, Filters(**narrow))  # type: ignore[arg-type]  # any filter


def test_counts_are_those_of_the_lists(desk: Desk) -> None:
    """With every filter, from the counters or by looking, as many are counted as are listed."""
    desk.submit(*(new_job(agent="ada", tags=("x",)) for _ in range(3)), new_job(priority=Priority.BACKGROUND))
    desk.submit(new_job(tenant_id="b"), new_job("needle", tenant_id="b"), new_job(llm="other", tenant_id="b"))
    desk.submit(new_job(llm="other"), new_job("needle"), new_job(run_at=at(9)))
    desk.stage(new_job("needle"))
    desk.finish(desk.take())
    filters: list[dict[str, object]] = [
        {}, {"states": (State.QUEUED,)}, {"states": (State.SUCCEEDED, State.SCHEDULED)}, {"llm": "other"},
        {"priority": Priority.BACKGROUND}, {"llm": LLM, "states": (State.QUEUED,)}, {"agent": "ada"},
        {"tag": "x"}, {"tag": "x", "states": (State.QUEUED,)}, {"text": "needle"}, {"text": "hel"},
        {"created_after": at(-1)}, {"created_before": at(-1)}, {"bulk_id": "bulk_1"},
    ]  # fmt: skip
    for each in filters:
        assert counted(desk, **each) == Count(len(walked(desk, 100, **each)[0])), each


def test_a_count_ends(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends at a number, or when so many were looked at, and says that there may be more."""
    desk.submit(*(new_job(tags=("x",)) for _ in range(6)))
    monkeypatch.setattr(listing, "MOST_COUNTED", 6)
    assert counted(desk, tag="x") == Count(6)
    monkeypatch.setattr(listing, "MOST_COUNTED", 5)
    assert counted(desk, tag="x") == Count(5, capped=True)
    assert counted(desk) == Count(6)
    desk.submit(*(new_job(llm="other", tags=("x",)) for _ in range(9)))
    assert all(
        counted(desk, tag="x", llm=llm).capped for llm in (LLM, "other")
    )  # one or the other is too far


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
