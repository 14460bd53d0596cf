"""Claims of a worker that is full: for whom others are parked, and for whom not."""

from __future__ import annotations

import pytest

from models import claims
from models.claims import Place
from models.states import Priority, State
from models.tenants import Mode
from tests.models.desk import Desk
from tests.rows import LLM, new_job

URGENT, STANDARD, PATIENT = Priority

LAST = 10**9
"""A rank behind all others."""


def submit(desk: Desk, priority: Priority, count: int = 1) -> list[str]:
    """Jobs of a class."""
    return desk.submit(*(new_job(priority=priority) for _ in range(count)))


def ahead(desk: Desk, *parkable: Place) -> list[str]:
    """What is taken for such places; the look without a lock must foretell whether that is anything."""
    with desk.database.read() as session:
        foretold = claims.any_ahead(session, LLM, parkable)
    taken = [claim.job_id for claim in desk.claim_ahead(*parkable)]
    assert foretold == bool(taken)
    return taken


def test_each_place_is_given_up_once(desk: Desk) -> None:
    """As many jobs are taken as there are places for them, the best first, and they run."""
    ids = submit(desk, URGENT, 3)
    assert ahead(desk, (PATIENT, LAST), (PATIENT, LAST - 1)) == ids[:2]
    assert desk.states(*ids) == [State.RUNNING, State.RUNNING, State.QUEUED]


@pytest.mark.parametrize(
    ("place", "is_taken"),
    [
        ((PATIENT, LAST), True),
        ((PATIENT, 1_001), True),
        ((PATIENT, 1_000), False),
        ((STANDARD, LAST), False),
        ((URGENT, LAST), False),
    ],
)
def test_class_and_rank_must_be_better(desk: Desk, place: Place, *, is_taken: bool) -> None:
    """A standard job of rank 1,000 replaces only what is of a worse class and ranks behind it."""
    ids = submit(desk, STANDARD)
    assert ahead(desk, place) == (ids if is_taken else [])


def test_each_must_outrank_the_one_it_replaces(desk: Desk) -> None:
    """The second is not taken where the place that is left ranks before it, whatever the first gave up."""
    ids = submit(desk, URGENT, 2)
    assert ahead(desk, (PATIENT, LAST), (PATIENT, desk.job(ids[1]).rank - 1)) == ids[:1]


def test_who_replaces_nobody_stands_in_nobodys_way(desk: Desk) -> None:
    """Standard jobs that rank first cannot replace a standard one; the urgent one behind them can."""
    desk.submit(new_job(priority=URGENT, estimated_tokens=2_000), new_job())
    desk.claim(2)
    ids = [*submit(desk, STANDARD, 2), *(urgent := submit(desk, URGENT))]
    assert [desk.job(job_id).rank for job_id in ids] == [1_010, 1_020, 2_000]
    assert ahead(desk, (STANDARD, LAST), (PATIENT, 1_005)) == urgent


def test_the_best_class_chooses_first(desk: Desk) -> None:
    """As in the engine: the urgent job takes the last place, and a standard one what is left, if it can."""
    desk.submit(new_job(priority=URGENT, estimated_tokens=2_000))
    desk.take()
    (standard,), (urgent,) = submit(desk, STANDARD), submit(desk, URGENT)
    assert [desk.job(job_id).rank for job_id in (standard, urgent)] == [1_000, 2_000]
    assert ahead(desk, (PATIENT, LAST), (STANDARD, LAST - 1)) == [urgent]
    assert ahead(desk, (PATIENT, LAST)) == [standard]


def test_nothing_is_taken_without_a_place(desk: Desk) -> None:
    """A worker that runs nothing that may be parked takes nothing."""
    submit(desk, URGENT)
    assert ahead(desk) == []


def test_nothing_is_taken_from_a_paused_queue(desk: Desk) -> None:
    """Nobody is parked while the queue is paused, and nobody looks for it in vain; draining goes on."""
    (job_id,) = submit(desk, URGENT)
    desk.steer(Mode.PAUSED)
    assert ahead(desk, (PATIENT, LAST)) == []
    desk.steer(Mode.DRAINING)
    assert ahead(desk, (PATIENT, LAST)) == [job_id]


def test_a_full_tenant_is_not_taken_ahead(desk: Desk) -> None:
    """Who may not run more jobs gets none by parking either; the next tenant's job does."""
    desk.limit("small", 1)
    desk.submit(*(new_job(tenant_id="small", priority=URGENT) for _ in range(3)))
    desk.take()
    (other,) = submit(desk, URGENT)
    assert [claim.job_id for claim in desk.claim_ahead((PATIENT, LAST), (PATIENT, LAST))] == [other]


def test_suspects_are_passed_by(desk: Desk) -> None:
    """Nobody is parked for a suspect, which must wait for an idle worker; who comes behind it is taken."""
    (lost,) = submit(desk, URGENT)
    desk.take()
    desk.rescue()
    assert ahead(desk, (PATIENT, LAST)) == []
    (urgent,) = submit(desk, URGENT)
    assert ahead(desk, (PATIENT, LAST)) == [urgent]
    assert desk.states(lost) == [State.QUEUED]


def test_what_has_expired_is_not_taken(desk: Desk) -> None:
    """A job whose time has run out parks nobody."""
    desk.submit(new_job(priority=URGENT, expires_at=desk.now))
    assert [claim.job_id for claim in desk.claim_ahead((PATIENT, LAST))] == []
