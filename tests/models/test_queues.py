"""Looking at queues: their depth and their age; and what they may do."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from models import queues, runtime
from models.audit import Audit
from models.job_rows import Job
from models.queues import Depth
from models.runtime import RuntimeSetting
from models.states import Priority
from models.tenants import Draining, Mode, Queue
from tests.models.desk import CLIENT, Desk
from tests.rows import LLM, OFFSETS, TENANT, at, new_job


def test_the_first_in_order_tells_whether_hints_were_lost(desk: Desk) -> None:
    """For each queue: the job that should go next, and since when it could."""
    desk.submit()
    desk.take()
    desk.submit(new_job(run_at=at(5)), new_job(agent="ada", llm=LLM))
    desk.submit(new_job(llm="other", run_at=at(50)))
    (other,) = desk.submit(new_job(llm="other"))
    desk.wait(6)
    (urgent,) = desk.submit(new_job(priority=Priority.INTERACTIVE))
    with desk.database.read() as session:
        assert queues.oldest_claimable(session) == {LLM: (urgent, at(6)), "other": (other, at(0))}


def test_a_promoted_job_waits_since_it_fell_due(desk: Desk) -> None:
    """The time before ``run_at`` is not waiting."""
    (job_id,) = desk.submit(new_job(run_at=at(5)))
    desk.wait(7)
    desk.promote()
    with desk.database.read() as session:
        assert queues.oldest_claimable(session) == {LLM: (job_id, at(5))}


def test_depths_add_up_over_tenants(desk: Desk) -> None:
    """Each queue and class shows how many wait, are scheduled and run; empty ones are missing."""
    desk.submit(new_job(), new_job(run_at=at(9)), new_job())
    desk.take()
    desk.wait(1)
    desk.submit(new_job(tenant_id="b"), new_job(tenant_id="b", priority=Priority.BACKGROUND))
    with desk.database.read() as session:
        everybody, theirs = queues.depths(session), queues.depths(session, "b")
    assert everybody == [Depth(LLM, 1, 2, 1, 1, at(0)), Depth(LLM, 2, 1, 0, 0, at(1))]
    assert theirs == [Depth(LLM, 1, 1, 0, 0, at(1)), Depth(LLM, 2, 1, 0, 0, at(1))]


def test_the_place_of_a_new_job_is_counted_up_to_a_bound(desk: Desk) -> None:
    """What goes before counts, up to the bound; a job that cannot be claimed has no place."""
    ids = desk.submit(*(new_job() for _ in range(5)), new_job(run_at=at(9)))
    with desk.database.read() as session:
        places = [queues.place_of_new(session, desk.job(job_id), at_most=4) for job_id in ids]
    assert places == [1, 2, 3, 4, None, None]


def test_the_place_is_counted_in_the_own_lane(desk: Desk) -> None:
    """Jobs of another lane are not in the way of a new one."""
    ids = desk.submit(*(new_job() for _ in range(4)))
    put(desk, "a", *ids[:2])
    with desk.database.read() as session:
        assert [queues.place_of_new(session, desk.job(job_id)) for job_id in ids] == [1, 2, 1, 2]


def put(desk: Desk, lane: str, *job_ids: str) -> None:
    """Let jobs stand in a lane."""
    with desk.database.write() as session:
        session.execute(update(Job).where(Job.id.in_(job_ids)).values(lane=lane))


def test_the_first_in_order_is_that_of_all_lanes(desk: Desk) -> None:
    """Of the heads of the lanes the best goes first, whatever the names of the lanes."""
    first, second, _ = desk.submit(*(new_job() for _ in range(3)))
    put(desk, "z", first)
    put(desk, "b", second)
    with desk.database.read() as session:
        assert queues.first_claimable(session, LLM) == (first, at(0))
    assert desk.take().job_id == first
    with desk.database.read() as session:
        assert queues.first_claimable(session, LLM) == (second, at(0))
        assert queues.oldest_claimable(session) == {LLM: (second, at(0))}
        assert queues.first_claimable(session, "other") is None


@pytest.mark.parametrize("lane", ["", TENANT])
@pytest.mark.parametrize("rare", [Priority.INTERACTIVE, Priority.BACKGROUND])
def test_the_oldest_of_a_rare_class_is_found_by_its_rank(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, rare: Priority, lane: str
) -> None:
    """Few jobs among many that came before are found at the head of their class, in either lane."""
    monkeypatch.setattr(queues, "LOOK", 2)
    desk.submit(*(new_job() for _ in range(6)))
    desk.wait(3)
    ids = desk.submit(new_job(priority=rare), new_job(priority=rare))
    put(desk, lane, *ids)
    with desk.database.read() as session:
        found = {depth.priority: depth.oldest for depth in queues.depths(session, TENANT, OFFSETS)}
    assert found == {Priority.STANDARD: at(0), rare: at(3)}


def test_what_hides_among_many_has_no_age(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look ends after so many rows: it counts the jobs, and does not guess how old they are."""
    monkeypatch.setattr(queues, "LOOK", 1)
    desk.submit(new_job(tenant_id="b", priority=Priority.INTERACTIVE))
    desk.submit(new_job(), new_job(priority=Priority.INTERACTIVE))
    with desk.database.read() as session:
        urgent, _ = queues.depths(session, TENANT, OFFSETS)
    assert urgent == Depth(LLM, Priority.INTERACTIVE, queued=1, oldest=None)


def steer(desk: Desk, mode: Mode, llm: str = LLM) -> bool:
    """Let a queue do something else."""
    return desk.do("steer", lambda s: queues.steer(s, llm, mode, TENANT, CLIENT, desk.now))


def test_a_queue_does_what_it_is_told(desk: Desk) -> None:
    """Each queue for itself; only changes are told and audited, and the virtual clock stays."""
    desk.submit(new_job(), new_job())
    desk.take(), desk.take()
    assert [steer(desk, mode) for mode in (Mode.OPEN, Mode.PAUSED, Mode.PAUSED, Mode.DRAINING)] == [
        False, True, False, True,
    ]  # fmt: skip
    assert steer(desk, Mode.PAUSED, "other")
    with desk.database.read() as session:
        modes = queues.modes(session, [LLM, "other", "third"])
    assert modes == {LLM: Mode.DRAINING, "other": Mode.PAUSED, "third": Mode.OPEN}
    assert steer(desk, Mode.OPEN)
    assert desk.acts(LLM) == [(CLIENT, act) for act in ("queue.pause", "queue.drain", "queue.resume")]
    assert {queue.llm: (queue.virtual, queue.mode) for queue in desk.all(Queue)} == {
        LLM: (10, "open"), "other": (0, "paused"),
    }  # fmt: skip


def test_the_window_of_a_queue_is_set(desk: Desk) -> None:
    """Each queue for itself; only changes are told and audited, and the mode stays."""
    steer(desk, Mode.PAUSED)

    def set_window(ms: float, llm: str = LLM) -> bool:
        return desk.do("set", lambda s: queues.set_window(s, llm, ms, TENANT, CLIENT, desk.now))

    assert [set_window(ms) for ms in (25, 25.0, 0, 12.5)] == [True, False, True, True]
    assert set_window(7, "other")
    with desk.database.read() as session:
        assert [queues.window(session, llm) for llm in (LLM, "other", "third")] == [12.5, 7, None]
        assert queues.modes(session, [LLM])[LLM] == Mode.PAUSED
    assert desk.acts(LLM) == [(CLIENT, act) for act in ("queue.pause", *["queue.window"] * 3)]
    assert [act.details for act in desk.all(Audit, subject="other")] == ['{"window_ms":7}']


def test_what_is_set_is_kept_by_name(desk: Desk) -> None:
    """Values are any JSON, the last one counts, and says since when it holds."""
    for second, value in enumerate(({"a": [1]}, {"a": [2]})):
        with desk.database.write() as session:
            assert runtime.put(session, LLM, "x", value, at(second))
            assert not runtime.put(session, LLM, "x", value, at(9))
            runtime.put(session, LLM, "y", None, at(second))
    with desk.database.read() as session:
        assert runtime.of(session, LLM) == {"x": {"a": [2]}, "y": None}
        assert runtime.of(session, "other") == {}
    assert desk.all(RuntimeSetting, name="x")[0].updated_at == at(1)


def test_a_paused_queue_gives_no_jobs(desk: Desk) -> None:
    """Nothing is claimed of it until it is open, or draining; what runs can end."""
    desk.submit(new_job(), new_job(), new_job())
    claim = desk.take()
    steer(desk, Mode.PAUSED)
    assert desk.claim(5) == []
    desk.finish(claim)
    steer(desk, Mode.DRAINING)
    assert len(desk.claim()) == 1
    steer(desk, Mode.OPEN)
    assert len(desk.claim()) == 1


def test_a_bulk_is_not_published_into_a_draining_queue(desk: Desk) -> None:
    """A bulk that was stored before is refused whole, and may be published when the queue is open again."""
    bulk = desk.stage(new_job(llm="other"), new_job())
    steer(desk, Mode.DRAINING)
    with pytest.raises(Draining, match=LLM):
        desk.publish(bulk)
    assert all(job.staged for job in desk.all(Job))
    steer(desk, Mode.OPEN)
    desk.publish(bulk)
    assert len(desk.claim(5)) == 1


def test_unfinished_counts_what_waits_and_runs(desk: Desk) -> None:
    """All tenants' jobs of one queue count until they have ended."""
    desk.submit(new_job(), new_job(run_at=at(9)))
    desk.submit(new_job(tenant_id="b"), new_job(tenant_id="b", llm="other"))
    desk.finish(desk.take())
    desk.take()
    with desk.database.read() as session:
        assert [queues.unfinished(session, llm) for llm in (LLM, "other", "none")] == [2, 1, 0]
