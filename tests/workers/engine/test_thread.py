"""The engine's thread: commands in, outputs out, and nothing lost at its end."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from models.requests import Message
from tests.service import wait_until
from workers.backends.fake import FakeBackend, FakeOptions
from workers.engine import (
    Delta,
    EngineDead,
    EngineThread,
    Finished,
    Limits,
    Output,
    PromptRefused,
    Started,
    StepResult,
    Withdrawn,
)

from .batches import END, finished, job, parked, user

PATIENCE = 10.0


class Listener:
    """Collects what the engine tells."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[list[Output]] = queue.SimpleQueue()
        self.told: list[Output] = []
        self.threads: set[str] = set()

    def __call__(self, outputs: list[Output]) -> None:
        """Keep what is told, and by which thread."""
        self.threads.add(threading.current_thread().name)
        self._queue.put(outputs)

    def until(self, condition: Callable[[list[Output]], bool]) -> list[Output]:
        """Wait for more until the condition holds for all that was told."""
        deadline = time.monotonic() + PATIENCE
        while not condition(self.told):
            self.told += self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
        return self.told

    def now(self) -> list[Output]:
        """All that has been told already."""
        while not self._queue.empty():
            self.told += self._queue.get()
        return self.told

    def until_ended(self, jobs: int) -> list[Output]:
        """Wait until so many jobs have ended."""
        return self.until(lambda told: sum(isinstance(output, END) for output in told) >= jobs)


@pytest.fixture
def listener() -> Listener:
    """Someone to listen."""
    return Listener()


@pytest.fixture
def made() -> list[EngineThread]:
    """Threads to be stopped at the end."""
    return []


@pytest.fixture
def start(listener: Listener, made: list[EngineThread]) -> Iterator[Callable[..., EngineThread]]:
    """Starts engine threads over twins, and stops them at the end of the test."""

    def start(limits: Limits | None = None, **options: object) -> EngineThread:
        thread = EngineThread(
            lambda: FakeBackend(FakeOptions.model_validate(options)), limits or Limits(4, 1 << 30), listener
        )
        made.append(thread)
        thread.start()
        thread.ready(PATIENCE)
        return thread

    yield start
    for thread in made:
        assert thread.stop(PATIENCE)


def test_jobs_run_and_their_outputs_come_from_the_engines_thread(
    start: Callable[..., EngineThread], listener: Listener
) -> None:
    """Everything submitted comes back through the callback, which runs in the engine's thread."""
    thread = start()
    thread.submit([job("a", max_tokens=5), job("b", max_tokens=5)])
    assert set(finished(listener.until_ended(2))) == {"a", "b"}
    assert listener.threads == {"engine"}


def test_jobs_of_one_call_are_started_in_one_step(
    start: Callable[..., EngineThread], listener: Listener
) -> None:
    """One list of outputs holds the start of all of them."""
    start().submit([job(f"{n}") for n in range(4)])
    first = listener.until(bool)
    assert [output.job_id for output in first if isinstance(output, Started)] == ["0", "1", "2", "3"]


def test_an_idle_engine_wakes_at_once(start: Callable[..., EngineThread], listener: Listener) -> None:
    """A job given to a sleeping engine starts without waiting for any interval."""
    thread = start()
    time.sleep(0.05)
    begun = time.monotonic()
    thread.submit([job("a", max_tokens=1)])
    listener.until(bool)
    assert time.monotonic() - begun < 1


def test_capacity_counts_what_was_handed_over(start: Callable[..., EngineThread], listener: Listener) -> None:
    """Rows are taken at the moment of submission and free when their end was told."""
    thread = start(endless=True, step_ms=5)
    assert thread.capacity() == 4
    thread.submit([job(f"{n}", max_tokens=4000) for n in range(3)])
    assert thread.capacity() == 1
    listener.until(lambda told: any(isinstance(output, Started) for output in told))
    assert thread.capacity() == 1
    thread.cancel("0", 1)
    listener.until_ended(1)
    assert thread.drain(0) is False
    assert thread.capacity() == 0


def test_those_who_could_make_room_are_known_at_any_time(
    start: Callable[..., EngineThread], listener: Listener
) -> None:
    """All jobs held, those just handed over too, the highest rank first; who leaves is not among them."""
    thread = start(endless=True, step_ms=5)
    assert thread.parkable() == []
    thread.submit([job(f"{n}", max_tokens=4000, priority=2, rank=10 + n) for n in range(4)])
    assert thread.parkable() == [(2, 13), (2, 12), (2, 11), (2, 10)]
    thread.submit([job("urgent", max_tokens=4000, priority=0, rank=1)])
    assert thread.parkable() == [(2, 12), (2, 11), (2, 10), (0, 1)]
    listener.until(lambda told: bool(parked(told)))
    assert thread.parkable() == [(2, 12), (2, 11), (2, 10), (0, 1)]
    assert (thread.held, thread.capacity()) == (4, 0)


def test_there_is_less_capacity_while_memory_is_short(
    start: Callable[..., EngineThread], listener: Listener
) -> None:
    """Jobs that could not decode anyway are left to others; when all is over there is room again."""
    thread = start(endless=True, memory_rows=1, step_ms=2)
    thread.submit([job(name, max_tokens=4000) for name in "ab"])
    listener.until(lambda told: any(isinstance(output, Delta) for output in told))
    assert (thread.held, thread.capacity()) == (2, 0)
    for name in "ab":
        thread.cancel(name, 1)
    listener.until_ended(2)
    assert thread.capacity() == 4


def test_a_cancel_reaches_a_running_job(start: Callable[..., EngineThread], listener: Listener) -> None:
    """A job that would run for long ends soon, with what it has."""
    thread = start(endless=True, step_ms=2)
    thread.submit([job("a", max_tokens=4000)])
    listener.until(lambda told: len(told) > 3)
    thread.cancel("a", 1)
    end = finished(listener.until_ended(1))["a"]
    assert end.finish_reason == "cancelled"
    assert 0 < end.completion_tokens < 4000


def test_drain_waits_for_the_jobs_held(start: Callable[..., EngineThread], listener: Listener) -> None:
    """No more jobs are taken, those held end, and drain says so only when their ends were told."""
    thread = start(endless=True, step_ms=1)
    thread.submit([job("a", max_tokens=20)])
    assert thread.drain(PATIENCE)
    assert isinstance(listener.now()[-1], Finished)
    with pytest.raises(EngineDead):
        thread.submit([job("b")])


def test_stop_hands_jobs_back_with_their_tokens(
    start: Callable[..., EngineThread], listener: Listener
) -> None:
    """What does not end in the grace time is withdrawn, and continues elsewhere from its tokens."""
    thread = start(endless=True, step_ms=2)
    thread.submit([job("a", max_tokens=500, seed=1)])
    listener.until(lambda told: len(told) > 4)
    assert thread.drain(0.01) is False
    assert thread.stop(PATIENCE)
    end = listener.until_ended(1)[-1]
    assert isinstance(end, Withdrawn)
    assert len(end.token_ids) > 2


def test_withdraw_all_leaves_the_engine_ready(start: Callable[..., EngineThread], listener: Listener) -> None:
    """Jobs can be taken out of a living engine, which then takes others."""
    thread = start(endless=True, step_ms=2)
    thread.submit([job("a", max_tokens=4000)])
    thread.withdraw_all()
    assert isinstance(listener.until_ended(1)[-1], Withdrawn)
    thread.submit([job("b", max_tokens=3)])
    assert "b" in finished(listener.until_ended(2))


def test_a_dead_engine_is_seen_and_takes_nothing(listener: Listener) -> None:
    """Its death is visible, told once, and neither capacity nor submit pretend otherwise."""
    heard: queue.SimpleQueue[EngineDead] = queue.SimpleQueue()
    thread = EngineThread(
        lambda: FakeBackend(FakeOptions(fail_steps=frozenset([2]), fail_reset=True)),
        Limits(4, 1 << 30),
        listener,
        on_dead=heard.put,
    )
    thread.start()
    thread.ready(PATIENCE)
    thread.submit([job("a")])
    assert heard.get(timeout=PATIENCE) is thread.dead
    assert thread.capacity() == 0
    assert thread.drain(PATIENCE) is False
    with pytest.raises(EngineDead):
        thread.submit([job("b")])
    assert thread.stop(PATIENCE)


def test_a_listener_that_fails_kills_the_engine() -> None:
    """Results must not vanish: an engine that cannot tell them stops."""

    def refuse(outputs: list[Output]) -> None:
        raise OSError("nobody listens")

    thread = EngineThread(FakeBackend, Limits(4, 1 << 30), refuse)
    thread.start()
    thread.submit([job("a")])
    thread._thread.join(PATIENCE)
    assert isinstance(thread.dead, EngineDead)
    assert "nobody listens" in str(thread.dead)


def test_an_llm_that_cannot_be_loaded_is_reported(listener: Listener) -> None:
    """Waiting for it raises, with the reason."""

    def load() -> FakeBackend:
        raise FileNotFoundError("no such LLM")

    thread = EngineThread(load, Limits(4, 1 << 30), listener)
    thread.start()
    with pytest.raises(EngineDead, match="no such LLM"):
        thread.ready(PATIENCE)
    assert thread.stop(PATIENCE)


def test_prompts_are_encoded_beside_the_engine(start: Callable[..., EngineThread]) -> None:
    """Encoding runs in the caller's thread, and what is refused raises there."""
    thread = start(no_system=True)
    assert thread.encode(user("hi")) == [258, 104, 105, 259]
    with pytest.raises(PromptRefused, match="no system role"):
        thread.encode((Message(role="system", content=()), *user("hi")))


def test_figures_are_exact_when_idle(start: Callable[..., EngineThread], listener: Listener) -> None:
    """After the last end the totals are complete and the batch is empty."""
    thread = start(endless=True)
    thread.submit([job("a", max_tokens=7)])
    listener.until_ended(1)
    assert thread.drain(PATIENCE)
    assert (thread.stats().decoded_tokens, thread.stats().rows, thread.held) == (7, 0, 0)


def test_a_step_that_takes_long_is_seen_from_outside(
    start: Callable[..., EngineThread], listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as one step goes on its age grows; between steps and when idle there is none."""
    at_it, go_on = threading.Event(), threading.Event()
    step = FakeBackend.step

    def wait(self: FakeBackend, prefill_tokens: int) -> StepResult:
        at_it.set()
        go_on.wait(PATIENCE)
        return step(self, prefill_tokens)

    thread = start(reply_tokens=1)
    assert thread.step_seconds() == 0
    monkeypatch.setattr(FakeBackend, "step", wait)
    thread.submit([job("a")])
    at_it.wait(PATIENCE)
    earlier = thread.step_seconds()
    assert 0 < earlier < thread.step_seconds()
    go_on.set()
    listener.until_ended(1)
    wait_until(lambda: thread.step_seconds() == 0)
    assert thread.stop(PATIENCE)
    assert thread.step_seconds() == 0
    assert not thread.is_running


def test_a_stop_does_not_wait_for_loading(listener: Listener) -> None:
    """An engine that still loads holds no job: stopping says at once that it has not ended."""
    load = threading.Event()

    def make() -> FakeBackend:
        load.wait(PATIENCE)
        return FakeBackend()

    thread = EngineThread(make, Limits(4, 1 << 30), listener)
    thread.start()
    with pytest.raises(TimeoutError):
        thread.ready(0)
    assert thread.stop() is False
    assert thread.is_running
    load.set()
    thread.ready(PATIENCE)
    assert thread.stop(PATIENCE)


def test_books_that_do_not_agree_kill_the_engine(
    start: Callable[..., EngineThread], listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are compared when it has nothing to do, after what was done has been told."""

    def differ(*_: object) -> None:
        raise AssertionError("the books differ")

    monkeypatch.setattr(FakeBackend, "check_integrity", differ)
    thread = start(reply_tokens=1)
    thread.submit([job("a")])
    listener.until_ended(1)
    wait_until(lambda: thread.dead is not None)
