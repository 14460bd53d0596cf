"""Workers and LLMs as rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text

from models import claims, workers
from models.database import Database, Session
from models.workers import Standing, Worker
from tests.models.desk import WORKER, Desk
from tests.rows import LLM, at, new_job, new_llm, new_worker

WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")


def add(desk: Desk, *ids: str) -> None:
    """Register workers."""
    with desk.database.write() as session:
        session.add_all([new_worker(id=worker_id) for worker_id in ids])


def test_a_beat_raises_the_counter(desk: Desk) -> None:
    """Each beat counts one more and carries figures; none is taken from a worker that is gone."""
    add(desk, "a", "b")
    with desk.database.write() as session:
        assert workers.beat(session, "a", {"batch": 3}, at(1))
        assert workers.beat(session, "a", {"batch": 4}, at(2))
        workers.end(session, "b", at(2))
        assert not workers.beat(session, "b", {}, at(3))
        assert not workers.beat(session, "none", {}, at(3))
    (a,), (b,) = desk.all(Worker, id="a"), desk.all(Worker, id="b")
    assert (a.beats, a.seen_at, a.figures, b.beats) == (2, at(2), {"batch": 4}, 0)


def test_the_first_word_of_an_end_counts(desk: Desk) -> None:
    """A worker that was declared lost does not end a second time."""
    add(desk, "a", "b")
    with desk.database.write() as session:
        workers.end(session, "a", at(1))
        workers.end(session, "a", at(2))
        assert [worker.id for worker in workers.alive(session)] == ["b"]
    assert desk.all(Worker, id="a")[0].ended_at == at(1)


def test_a_worker_stands_until_it_ends(desk: Desk) -> None:
    """Who was declared lost, or has no row, may not act."""
    add(desk, "a", "b")
    with desk.database.write() as session:
        workers.end(session, "b", at(1))
        assert [workers.stands(session, name) for name in ("a", "b", "none")] == [True, False, False]


def test_no_worker_is_declared_lost_while_it_acts(postgres_database: Database) -> None:
    """On PostgreSQL whoever ends a worker waits for its claim, and then sees what it claimed."""
    desk = Desk(postgres_database)
    add(desk, WORKER)
    desk.submit()

    def declare_lost(session: Session) -> list[str]:
        workers.end(session, WORKER, at(1))
        return workers.orphaned(session)

    with ThreadPoolExecutor(1) as pool:
        with postgres_database.write() as session:
            assert workers.stands(session, WORKER)
            claims.claim(session, WORKER, LLM, 1, at(0))
            session.flush()
            found = pool.submit(desk.do, "end", declare_lost)
            while not session.scalar(WAITING):
                assert not found.done()
        assert found.result(10) == [WORKER]
        desk.rescue()


def test_jobs_of_workers_that_are_gone_are_found(desk: Desk) -> None:
    """Workers that ended or whose rows are missing are named while jobs run in their names."""
    add(desk, WORKER, "ended")
    desk.submit(*(new_job() for _ in range(4)))
    desk.claim()
    desk.claim(2, worker="ended")
    desk.claim(worker="missing")
    with desk.database.write() as session:
        workers.end(session, "ended", at(1))
        assert sorted(workers.orphaned(session)) == ["ended", "missing"]
    desk.rescue("ended")
    desk.rescue("missing")
    with desk.database.read() as session:
        assert workers.orphaned(session) == []


def test_an_llm_is_told_of_anew(desk: Desk) -> None:
    """The newest word on an alias replaces the one before; its rate comes later."""
    with desk.database.write() as session:
        workers.publish_llm(session, new_llm(context_length=1))
        workers.publish_llm(session, new_llm(alias="another"))
    with desk.database.write() as session:
        workers.publish_llm(session, new_llm(context_length=2))
        workers.publish_rate(session, LLM, 2.5, at(1))
        workers.publish_rate(session, "none", 2.5, at(1))
    with desk.database.read() as session:
        another, pico = workers.llms(session)
    assert (another.alias, pico.alias, pico.context_length) == ("another", LLM, 2)
    assert (another.jobs_per_second, pico.jobs_per_second, pico.updated_at) == (None, 2.5, at(1))


def test_how_it_stands_with_each_llm(desk: Desk) -> None:
    """What a living worker has loaded or can load is ready; what none can says why; the dead do not count."""
    can = {LLM: None, "b": None, "c": "no memory"}
    with desk.database.write() as session:
        session.add_all([new_worker(id="a", llms=can), new_worker(id="b", llm="c", llms={"d": "no file"})])
        session.add_all([new_worker(id="gone", llm="e"), new_worker(id="old", llm="f"), new_worker(id="g")])
        workers.end(session, "gone", at(1))
        found = workers.standings(workers.alive(session))
    assert found == {
        LLM: Standing(can_load=True),
        "b": Standing(can_load=True),
        "c": Standing(is_loaded=True, trouble="no memory"),
        "d": Standing(trouble="no file"),
        "f": Standing(is_loaded=True),
    }
    assert [llm for llm, standing in found.items() if not standing.is_ready] == ["d"]


def test_one_that_can_load_it_is_enough(desk: Desk) -> None:
    """An LLM that one worker could not load and another can is ready, whoever is looked at first."""
    some = [new_worker(llms={LLM: "no memory"}), new_worker(llms={LLM: None})]
    for living in (some, some[::-1]):
        assert workers.standings(living) == {LLM: Standing(can_load=True, trouble="no memory")}


def test_a_worker_tells_what_it_serves_and_can_load(desk: Desk) -> None:
    """Only the rows of the workers that are meant say so."""
    add(desk, "a", "b", "c")
    with desk.database.write() as session:
        workers.serve(session, "a", LLM)
        workers.tell(session, ["a", "b"], {LLM: None, "big": "no memory"})
    told = {LLM: None, "big": "no memory"}
    found = {worker.id: (worker.llm, worker.llms) for worker in desk.all(Worker)}
    assert found == {"a": (LLM, told), "b": (None, told), "c": (None, {})}


def test_a_command_for_all_goes_to_each_that_lives(desk: Desk) -> None:
    """Living workers that have loaded an LLM, and the LLMs that none has; others are not meant."""
    with desk.database.write() as session:
        session.add_all(
            [new_worker(id="a", llm=LLM), new_worker(id="b", llm="odd"), new_worker(id="c", llm=LLM)]
        )
        session.add_all([new_worker(id="errands", kind="errands"), new_worker(id="gone", llm="big")])
        workers.end(session, "gone", at(1))
        found = workers.posts(session, [LLM, "big"])
    assert found == [(LLM, "a"), ("odd", "b"), (LLM, "c"), ("big", None)]


def test_workers_that_ended_long_ago_are_forgotten(desk: Desk) -> None:
    """Only what ended before the time goes; the living stay."""
    add(desk, "old", "young", "alive")
    with desk.database.write() as session:
        workers.end(session, "old", at(1))
        workers.end(session, "young", at(5))
        workers.prune(session, at(5))
    assert sorted(worker.id for worker in desk.all(Worker)) == ["alive", "young"]
