"""The engine's own thread: nothing of the backend is ever touched by another."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace

from models.requests import Message
from workers.cache.disk import DiskTier
from workers.engine.admission import Admission
from workers.engine.backend import Backend, LlmInfo
from workers.engine.engine import Engine
from workers.engine.limits import Limits
from workers.engine.outputs import Failed, Finished, Output, StopReason, Withdrawn
from workers.engine.recovery import EngineDead
from workers.engine.reuse import Holding
from workers.engine.stats import EngineStats

log = logging.getLogger(__name__)

STATS_SECONDS = 0.1

CHECK_SHARE = 0.01
"""Part of the time that comparing the books may take: with a large pool it takes a while."""

DISK_SECONDS = 5.0
"""How long a stop waits for what is on its way to the disk."""

Command = Callable[[Engine], Iterable[Output] | None]


class EngineThread:
    """Runs an engine in one dedicated thread and lends it to all others.

    ``make_backend`` is called in that thread, so that everything it creates
    belongs there. ``on_outputs`` gets the outputs of a step in one list, in
    that thread too: it must be quick (put them on a queue), and an exception
    from it kills the engine, because results would be lost. While nothing is
    to be done the thread sleeps on a condition and wakes at once. ``make_disk``
    gives the place where the LLM's blocks outlive the process, if there is one.
    """

    def __init__(
        self,
        make_backend: Callable[[], Backend],
        limits: Limits,
        on_outputs: Callable[[list[Output]], None],
        *,
        make_disk: Callable[[LlmInfo], DiskTier | None] = lambda _: None,
        on_dead: Callable[[EngineDead], None] | None = None,
        name: str = "engine",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_backend = make_backend
        self._make_disk = make_disk
        self._limits = limits
        self._on_outputs = on_outputs
        self._on_dead = on_dead
        self._clock = clock
        self._changed = threading.Condition()
        self._commands: list[Command] = []
        self._inbound: list[tuple[int, int]] = []
        self._taken = 0
        self._held = 0
        self._max_rows = limits.max_rows
        self._parkable: list[tuple[int, int]] = []
        self._began: float | None = None
        self._stats = EngineStats()
        self._stats_due = self._check_due = 0.0
        self._holdings: dict[str, Holding] = {}
        self._reading: dict[str, Future[Finished]] = {}
        self._draining = False
        self._stopping = False
        self._backend: Future[Backend] = Future()
        self.dead: EngineDead | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start loading the LLM; returns at once."""
        self._thread.start()

    def ready(self, timeout: float | None = None) -> LlmInfo:
        """Wait until the LLM is loaded and return what is known of it.

        Raises :class:`EngineDead`, caused by what loading raised.
        """
        return self._backend.result(timeout).info

    @property
    def is_running(self) -> bool:
        """Whether the thread has been started and has not ended, loading included."""
        return self._thread.is_alive()

    def step_seconds(self) -> float:
        """For how long the engine has been at its present step; 0 while it loads or has nothing to do."""
        began = self._began
        return 0.0 if began is None else self._clock() - began

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Render and tokenise a conversation in the calling thread, beside the engine.

        Raises :class:`workers.engine.backend.PromptRefused` with a reason for the job's owner.
        """
        return self._backend.result().encode(messages)

    def boundaries(self, messages: Sequence[Message], tokens: Sequence[int]) -> list[int]:
        """Where a next turn may part from this one; see :meth:`workers.engine.backend.Backend.boundaries`."""
        return self._backend.result().boundaries(messages, tokens)

    def capacity(self) -> int:
        """Rows that can be taken now; 0 while loading, draining or dead."""
        with self._changed:
            if self._draining or self.dead is not None or not self._backend.done():
                return 0
            return max(0, self._max_rows - self._held - len(self._inbound))

    @property
    def held(self) -> int:
        """Jobs handed over whose end has not been told yet."""
        with self._changed:
            return self._held + len(self._inbound)

    def parkable(self) -> list[tuple[int, int]]:
        """Priority and rank of the jobs held that could make room for others, the highest rank first.

        A job parks for one whose priority and rank are both lower. Those for
        whom others have been handed over already are missing, and so is one
        against which broken steps are held.
        """
        with self._changed:
            jobs = sorted(self._parkable + self._inbound, key=lambda job: job[1], reverse=True)
            over = self._held + len(self._inbound) - self._limits.max_rows
        return jobs[max(0, over) :]

    def stats(self) -> EngineStats:
        """Figures, at most a tenth of a second old while the engine works, exact when it is idle."""
        with self._changed:
            return self._stats

    def submit(self, admissions: Iterable[Admission]) -> None:
        """Hand attempts over; those of one call are admitted together as far as they fit.

        Raises :class:`EngineDead` when nobody will ever decode them.
        """
        batch = list(admissions)
        with self._changed:
            if self.dead is not None or self._draining:
                raise EngineDead("the engine takes no more jobs") from self.dead
            self._inbound += [(admission.priority, admission.rank) for admission in batch]
            self._command(lambda engine: engine.submit(batch))

    def cancel(self, job_id: str, fence: int, reason: StopReason = "cancelled") -> None:
        """Let an attempt end at the next step; unknown attempts are ignored."""
        with self._changed:
            self._command(lambda engine: engine.cancel(job_id, fence, reason))

    def read(self, admission: Admission) -> Future[Finished]:
        """Have a prompt cached; no listener is told of it. The future has RuntimeError if it cannot be.

        Raises :class:`EngineDead` as :meth:`submit` does.
        """
        answer: Future[Finished] = Future()
        with self._changed:
            self._reading[admission.job_id] = answer
        self.submit([replace(admission, only_reads=True)])
        return answer

    def save(self, owner: str) -> Future[int]:
        """Write an agent's conversation to disk; the future has its tokens when done, or RuntimeError."""
        answer: Future[int] = Future()
        with self._changed:
            self._command(lambda engine: engine.reuse.save(owner, answer))
        return answer

    def forget(self, owner: str) -> Future[int]:
        """Drop what only this agent has, in memory and on disk; the future has the tokens it held."""
        answer: Future[int] = Future()
        with self._changed:
            self._command(lambda engine: engine.reuse.forget(owner, answer))
        return answer

    def holdings(self) -> list[Holding]:
        """What agents have cached, of those for whom that has changed since the last call."""
        with self._changed:
            holdings, self._holdings = self._holdings, {}
        return list(holdings.values())

    def withdraw_all(self) -> None:
        """Let every job come back as Withdrawn, with its tokens so far, through the callback."""
        with self._changed:
            self._command(Engine.withdraw_all)

    def drain(self, grace_seconds: float) -> bool:
        """Take no more jobs and wait for those held to end; True if all did in time."""
        with self._changed:
            self._draining = True
            self._changed.wait_for(
                lambda: self.dead is not None or self._held + len(self._inbound) == 0, grace_seconds
            )
            return self._held + len(self._inbound) == 0

    def stop(self, timeout: float | None = None) -> bool:
        """Withdraw what is left, give the device back and end the thread; True if it ended in time.

        Loading cannot be interrupted and holds no job: it is not waited for.
        """
        with self._changed:
            self._draining = self._stopping = True
            self._command(Engine.withdraw_all)
        if self._backend.done():
            self._thread.join(timeout)
        return not self.is_running

    def _command(self, command: Command) -> None:
        self._commands.append(command)
        self._changed.notify_all()

    # Everything below runs in the engine's thread.

    def _run(self) -> None:
        try:
            backend = self._make_backend()
            disk = self._make_disk(backend.info)
            try:
                engine = Engine(backend, self._limits, self._clock, disk)
                self._backend.set_result(backend)
                self._serve(engine)
                engine.reuse.close()
                self._publish(engine)
            finally:
                backend.close()
                if disk is not None:
                    disk.stop(DISK_SECONDS)
        except BaseException as error:  # noqa: BLE001 - the thread's end must be seen by the others
            self._die(error if isinstance(error, EngineDead) else _dead_of(error))

    def _serve(self, engine: Engine) -> None:
        commands = self._await_work(engine)
        while commands or engine.has_work or not self._stopping:
            outputs = [output for command in commands for output in command(engine) or ()]
            outputs += engine.step()
            self._publish(engine)
            told = self._answer(outputs) if self._reading else outputs
            if told:
                self._on_outputs(told)
            if not engine.has_work and not engine.is_due:
                self._check(engine)  # after the telling: what is done is done, whatever it finds
            commands = self._await_work(engine)

    def _check(self, engine: Engine) -> None:
        """Compare the books, as often as it costs nobody more than :data:`CHECK_SHARE` of the time."""
        began = self._clock()
        if began >= self._check_due:
            engine.check_integrity()
            now = self._clock()
            self._check_due = now + (now - began) / CHECK_SHARE

    def _answer(self, outputs: list[Output]) -> list[Output]:
        """Keep back what concerns prompts that are only read, and tell those who asked for them."""
        for output in outputs:
            if isinstance(output, Finished | Failed | Withdrawn):
                with self._changed:
                    answer = self._reading.get(output.job_id)
                if answer is not None and isinstance(output, Finished):
                    answer.set_result(output)
                elif answer is not None:
                    answer.set_exception(RuntimeError(getattr(output, "message", "the worker stops")))
        told = [output for output in outputs if output.job_id not in self._reading]
        with self._changed:
            self._reading = {name: answer for name, answer in self._reading.items() if not answer.done()}
        return told

    def _await_work(self, engine: Engine) -> list[Command]:
        """Sleep until there is something to do; return the commands given meanwhile."""
        with self._changed:
            self._began = None
            while not (self._commands or engine.has_work or engine.is_due or self._stopping):
                self._changed.wait(engine.idle_seconds)
            commands, self._commands = self._commands, []
            self._taken = len(self._inbound)
            self._began = self._clock() if commands or engine.has_work else None
            return commands

    def _publish(self, engine: Engine) -> None:
        """Let other threads see how much is held, and the figures now and then."""
        now = self._clock()
        stats, holdings = None, {}
        if now >= self._stats_due or not engine.has_work:
            stats, self._stats_due = engine.stats(), now + STATS_SECONDS
            holdings = engine.reuse.holdings()
        with self._changed:
            self._holdings |= holdings
            self._held, self._max_rows, self._parkable = engine.held, engine.max_rows, engine.parkable()
            del self._inbound[: self._taken]
            self._taken = 0
            self._stats = stats or self._stats
            self._changed.notify_all()

    def _die(self, error: EngineDead) -> None:
        log.critical("The engine is dead", exc_info=error)
        with self._changed:
            self.dead = error
            self._changed.notify_all()
        if not self._backend.done():
            self._backend.set_exception(error)
        if self._on_dead is not None:
            self._on_dead(error)


def _dead_of(cause: BaseException) -> EngineDead:
    dead = EngineDead(f"the engine died of {type(cause).__name__}: {cause}")
    dead.__cause__ = cause
    return dead
