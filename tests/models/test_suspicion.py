"""Jobs that a worker was lost with are tried apart, until it is known which of them it was."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.job_rows import Job
from models.states import State
from models.suspicion import Suspect, accuse, group
from tests.models.desk import Desk
from tests.rows import new_job


def work(desk: Desk, poison: Collection[str], limit: int = 64) -> int:
    """Claim and finish until nothing is left; a claim with ``poison`` in it kills its worker; the deaths."""
    deaths = 0
    while claims := desk.claim(limit):
        if any(claim.job_id in poison for claim in claims):
            desk.rescue()
            deaths += 1
        else:
            desk.finish(*claims)
    return deaths


def test_a_poison_job_runs_out_of_attempts_alone(desk: Desk) -> None:
    """It fails as ``worker_lost`` after its last attempt; its neighbours lose only the crash's own."""
    ids = desk.submit(*(new_job(max_attempts=3) for _ in range(21)))
    deaths = work(desk, ids[9:10])
    jobs = {job.id: job for job in desk.all(Job)}
    poison = jobs.pop(ids[9])
    assert (poison.state, poison.error_type, poison.failures) == (State.FAILED, "worker_lost", 3)
    assert {(job.state, job.failures) for job in jobs.values()} == {(State.SUCCEEDED, 1)}
    assert deaths == 4  # all together, a group of eight, and twice alone


def test_suspects_run_in_groups(desk: Desk) -> None:
    """After a loss eight of them run at a time; nobody else waits for that."""
    lost = desk.submit(*(new_job() for _ in range(10)))
    desk.claim(10)
    desk.rescue()
    fresh = desk.submit(new_job(), new_job())
    first = desk.claim(64)
    assert [claim.job_id for claim in first] == lost[:8] + fresh
    (later,) = desk.submit()
    assert [claim.job_id for claim in desk.claim(64)] == [later]
    desk.finish(*first[:8])
    second = desk.claim(64)
    assert [claim.job_id for claim in second] == lost[8:]


def test_many_suspects_in_front_hide_nobody(desk: Desk) -> None:
    """However many wait to be tried, the room that they do not take is given to others."""
    desk.submit(*(new_job() for _ in range(30)))
    desk.claim(30)
    desk.rescue()
    fresh = desk.submit(*(new_job() for _ in range(6)))
    taken = [claim.job_id for claim in desk.claim(12)]
    assert (len(taken), set(taken) & set(fresh)) == (12, set(fresh[:4]))


def test_who_ran_beside_suspects_becomes_one_for_nothing(desk: Desk) -> None:
    """The loss of a worker with suspects costs a newcomer no attempt, but it is tried apart as well."""
    desk.submit(new_job(), new_job())
    desk.claim(2)
    desk.rescue()
    (fresh,) = desk.submit()
    assert len(desk.claim(64)) == 3
    desk.rescue()
    job = desk.job(fresh)
    assert (job.failures, job.suspect) == (0, Suspect.GROUP)
    assert {(job.failures, job.suspect) for job in desk.all(Job) if job.id != fresh} == {(1, Suspect.ALONE)}


def test_one_alone_is_tried_without_other_suspects(desk: Desk) -> None:
    """Whoever is suspected alone shares its worker with newcomers only."""
    first, second = desk.submit(new_job(), new_job())
    for _ in range(2):
        assert len(desk.claim(64)) == 2
        desk.rescue()
    (fresh,) = desk.submit()
    assert [claim.job_id for claim in desk.claim(64)] == [first, fresh]
    desk.rescue()
    assert (desk.job(first).failures, desk.job(second).failures, desk.job(fresh).failures) == (2, 1, 0)


@pytest.mark.parametrize(
    ("suspects", "raised", "charged"),
    [
        ([0, 0], [1, 1], 2),
        ([0], [2], 1),
        ([1, 1], [2, 2], 0),
        ([1], [2], 1),
        ([2], [2], 1),
        ([0, 1, 1], [1, 2, 2], 0),
        ([0, 0, 2], [1, 1, 2], 1),
    ],
)
def test_what_the_loss_of_a_worker_costs(suspects: list[int], raised: list[int], charged: int) -> None:
    """The first costs everyone, that of a group of suspects nobody, and that of one suspect this one."""
    jobs = [Job(id=str(number), suspect=suspect) for number, suspect in enumerate(suspects)]
    assert len(accuse(jobs)) == charged
    assert [job.suspect for job in jobs] == raised


@given(st.sets(st.integers(0, 39)), st.integers(1, 40), st.integers(1, 12), st.integers(1, 5))
@settings(deadline=None)
def test_the_innocent_lose_one_attempt_for_each_culprit_at_most(
    poison: set[int], n_jobs: int, trial_jobs: int, max_attempts: int
) -> None:
    """Each culprit is charged until it fails, whoever runs beside it; and it all comes to an end."""
    jobs = [Job(id=str(number), suspect=0, failures=0) for number in range(n_jobs)]
    waiting = list(jobs)
    while waiting:
        batch = group([job for job in waiting if job.suspect], trial_jobs)
        batch += [job for job in waiting if not job.suspect][: 16 - len(batch)]
        guilty = [job for job in batch if int(job.id) in poison]
        for job in accuse(batch) if guilty else []:
            job.failures += 1
        gone = [job for job in batch if job.failures >= max_attempts or not guilty]
        waiting = [job for job in waiting if job not in gone]
    culprits = [job for job in jobs if int(job.id) in poison]
    assert all(job.failures == max_attempts for job in culprits)
    assert all(job.failures <= len(culprits) for job in jobs if job not in culprits)
