"""Several LLMs in one process, with the twin: jobs, agents and their caches live through every exchange."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from sqlalchemy import func, select

from config.settings import Llm, Settings
from models import agents, commands, workers
from models.base import utcnow
from models.books import check_integrity
from models.commands import CommandState, Kind
from models.job_rows import Attempt, Job
from models.states import State
from models.workers import Worker
from tests.service import Service, completion, new_job, wait_until
from workers import registry
from workers.inference import Inference
from workers.registry import Registry


class Stop:
    """A stop without signals."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.set, self.wait = self._event.set, self._event.wait

    @property
    def is_set(self) -> bool:
        """Whether it is asked for."""
        return self._event.is_set()


@contextmanager
def shared(settings: Settings, url: str, paths: dict[str, str], **worker: object) -> Iterator[Service]:
    """A service in which one process serves all of some LLMs, in a thread of this one."""
    values = settings.model_dump()
    values["database"]["url"] = url
    values["broker"]["poll_ms"] = 10
    values["worker"] |= {"llms": tuple(paths), "swap_wait_seconds": 0.3, "swap_grace_seconds": 0, **worker}
    values["llms"] = {"pico": Llm(path="fake:")} | {alias: Llm(path=path) for alias, path in paths.items()}
    service, stop = Service(Settings.model_validate(values)), Stop()
    make = partial(Inference, service.settings, service.database)
    made = Registry(service.settings, service.database, make, stop)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield service
    finally:
        stop.set()
        thread.join()
        assert made.stop()
        assert not made.is_broken
        service.broker.close()
        service.database.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than in earnest."""
    monkeypatch.setattr(registry, "LOOK_SECONDS", 0.02)


def served(service: Service) -> dict[str, set[str]]:
    """The LLMs of the jobs that each worker took, by the LLM that the worker had loaded."""
    with service.database.read() as session:
        query = select(Worker.llm, Job.llm).join(Attempt, Attempt.worker_id == Worker.id)
        found: dict[str, set[str]] = {}
        for mine, llm in session.execute(query.join(Job, Job.id == Attempt.job_id).distinct()):
            found.setdefault(str(mine), set()).add(llm)
        return found


def exchanges(service: Service) -> int:
    """How many workers have loaded an LLM so far."""
    with service.database.read() as session:
        return session.scalar(select(func.count()).where(Worker.llm.is_not(None))) or 0


def test_hundreds_of_jobs_for_two_llms(settings: Settings, database_url: str) -> None:
    """Exchanged again and again in the midst of batches: every job ends once, well, where its LLM is."""
    paths = {"a": "fake:step_ms=5&endless=1", "b": "fake:step_ms=5&endless=1"}
    with shared(settings, database_url, paths) as service:
        some = [new_job(completion(f"{n}", max_tokens=60), llm="ab"[n % 2]) for n in range(300)]
        sent = service.submit(*some)
        done = service.wait(sent, State.SUCCEEDED)
        assert {each.job.failures for each in done} == {0}
        assert served(service) == {"a": {"a"}, "b": {"b"}}
        assert exchanges(service) >= 4
        with service.database.read() as session:
            outcomes = set(session.scalars(select(Attempt.outcome)))
            assert check_integrity(session) == []
        assert outcomes == {"succeeded", "handed_back"}


def test_what_is_handed_back_goes_on_from_its_tokens(settings: Settings, sqlite_url: str) -> None:
    """A long job of the LLM that leaves ends as if it had never been disturbed, and costs no attempt."""
    paths = {"a": "fake:step_ms=5&endless=1", "b": "fake:"}
    asked = completion("tell me", max_tokens=200, temperature=0.0)
    with shared(settings, sqlite_url, paths) as service:
        (alone,) = service.wait(service.submit(new_job(asked, llm="a")))
        (long,) = service.submit(new_job(asked, llm="a"))
        service.wait([long], State.RUNNING)
        service.wait(service.submit(new_job(llm="b")), State.SUCCEEDED)
        (done,) = service.wait([long], State.SUCCEEDED)
        assert alone.result is not None
        assert done.result is not None
        assert done.result.text == alone.result.text
        assert (done.job.failures, done.job.completion_tokens) == (0, 200)
        assert done.job.fence > 1


def test_both_are_loaded_where_there_is_room(settings: Settings, sqlite_url: str) -> None:
    """With two places nobody is exchanged, and each serves its own."""
    with shared(settings, sqlite_url, {"a": "fake:", "b": "fake:"}, loaded=2) as service:
        service.wait(service.submit(*(new_job(llm=llm) for llm in "abab")), State.SUCCEEDED)
        assert served(service) == {"a": {"a"}, "b": {"b"}}
        assert exchanges(service) == 2


def test_an_llm_that_cannot_be_loaded_harms_no_other(settings: Settings, sqlite_url: str) -> None:
    """Its jobs wait, with the reason on show; those of the other LLM run before, meanwhile and after."""
    with shared(settings, sqlite_url, {"a": "fake:", "b": "fake:no_such_option=1"}) as service:
        service.wait(service.submit(new_job(llm="a")), State.SUCCEEDED)
        (waits,) = service.submit(new_job(llm="b"))

        def is_told() -> bool:
            with service.database.read() as session:
                standing = workers.standings(workers.alive(session)).get("b")
            return standing is not None and "no_such_option" in (standing.trouble or "")

        wait_until(is_told)
        service.wait(service.submit(new_job(llm="a")), State.SUCCEEDED)
        assert service.job(waits.id).job.state == State.QUEUED


def test_an_agents_conversation_outlives_an_exchange(settings: Settings, sqlite_url: str) -> None:
    """Its blocks are written and told of when its LLM leaves, and read when that is back."""
    paths = {"a": "fake:step_ms=1", "b": "fake:"}
    with shared(settings, sqlite_url, paths, heartbeat_ms=3_600_000) as service:
        long = completion("word " * 200)
        (first,) = service.wait(service.submit(new_job(long, llm="a", agent="ada")))
        service.wait(service.submit(new_job(llm="b")), State.SUCCEEDED)
        with service.database.read() as session:
            agent = agents.find(session, "default", "ada")
            assert agent is not None
            assert (agent.held_llm, agent.held_where, agent.held_tokens >= 768) == ("a", "disk", True)
        (again,) = service.wait(service.submit(new_job(long, llm="a", agent="ada")))
        assert first.job.cached_tokens == 0
        assert again.job.cached_tokens is not None
        assert again.job.cached_tokens >= 768


def test_commands_from_elsewhere_load_and_unload(settings: Settings, sqlite_url: str) -> None:
    """What is asked for by name is loaded and unloaded, and the command tells of its end."""
    with shared(settings, sqlite_url, {"a": "fake:", "b": "fake:"}, swap_wait_seconds=60) as service:
        for kind, loaded in ((Kind.LOAD, {"b"}), (Kind.UNLOAD, set[str]())):
            with service.database.write() as session:
                asked = commands.issue(session, "default", "b", kind, {}, utcnow()).id

            def is_done(command_id: str = asked) -> bool:
                with service.database.read() as session:
                    command = commands.find(session, "default", command_id)
                    return command is not None and command.state == CommandState.DONE

            wait_until(is_done)
            with service.database.read() as session:
                assert {worker.llm for worker in workers.alive(session)} - {None} == loaded


def test_exchanges_leave_nothing_behind(settings: Settings, sqlite_url: str) -> None:
    """However often LLMs come and go, there are no more threads than before."""
    with shared(settings, sqlite_url, {"a": "fake:", "b": "fake:"}, swap_wait_seconds=0) as service:
        counts = []
        for turn in range(8):
            service.wait(service.submit(new_job(llm="ab"[turn % 2])), State.SUCCEEDED)
            counts.append(threading.active_count())
        assert exchanges(service) == 8
        assert max(counts[2:]) <= max(counts[:2]) + 2
