"""Keeps some children running: starts, restarts with back-off, gives up loudly, stops in order."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from types import FrameType

from ops.complaint import CONFIGURATION_ERROR
from ops.show import say
from ops.supervisor.child import Child

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Policy:
    """How patient the supervisor is with a child that dies: seconds, and deaths within some of them.

    A child that dies before the service was ready for the first time is likely to do so always.
    Later on it may be a job that kills its worker, which does so ``max_attempts`` times (20 at the
    most) and up to twice more to be found among its neighbours: the service must outlive that.
    """

    first_pause: float = 0.5
    longest_pause: float = 10.0
    deaths_at_start: int = 5
    start_seconds: float = 60.0
    deaths_once_ready: int = 30
    ready_seconds: float = 600.0

    def patience(self, *, is_ready: bool) -> tuple[int, float]:
        """How many deaths of one child, within how many seconds, are too many."""
        if is_ready:
            return self.deaths_once_ready, self.ready_seconds
        return self.deaths_at_start, self.start_seconds

    def pause(self, deaths: int) -> float:
        """How long to wait before the next start, after so many recent deaths."""
        return min(self.longest_pause, self.first_pause * 2.0 ** (deaths - 1))


class GaveUpError(Exception):
    """A child dies again and again, or cannot run as it is configured."""


class Supervisor:
    """Runs children in the order in which they are to be stopped."""

    def __init__(
        self,
        children: Sequence[Child],
        policy: Policy | None = None,
        on_death: Callable[[int], None] | None = None,
        poll_seconds: float = 0.1,
        tell: Callable[[str], None] = say,
    ) -> None:
        self._children = children
        self._policy = policy or Policy()
        self._on_death = on_death or (lambda _pid: None)
        self._poll_seconds = poll_seconds
        self._tell = tell
        self._deaths: dict[str, deque[float]] = {child.program.name: deque() for child in children}
        self._due: dict[str, float] = {}
        self._asked: list[str] = []
        self._was_ready = False

    def run(self, is_ready: Callable[[], bool], on_ready: Callable[[], None]) -> int:
        """Run until a signal comes; returns the exit status.

        ``is_ready`` is asked until it says yes once, then ``on_ready`` is
        called. 0 is a clean stop, 1 anything else.
        """
        with self._listening():
            try:
                self._watch(is_ready, on_ready)
            except GaveUpError as error:
                self._tell(f"Giving up: {error}")
                self._stop()
                return 1
            self._tell(f"Stopping: {self._asked[0]}")
            return 0 if self._stop() else 1

    def stop_soon(self, why: str = "asked to") -> None:
        """Ask for a stop, as a first signal does; a second call is like a second signal.

        Only a list grows: a handler that set an event would wait for the lock that the main
        thread, in whose midst it runs, holds while it waits for that event.
        """
        self._asked.append(why)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        def heard(number: int, _frame: FrameType | None) -> None:
            self.stop_soon(signal.Signals(number).name)  # told by the loop: a handler must not print

        before = {number: signal.signal(number, heard) for number in STOPPING}
        if before[signal.SIGHUP] is signal.SIG_IGN:  # we were started under nohup
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._kill_all()  # nothing outlives us, whatever went wrong

    def _watch(self, is_ready: Callable[[], bool], on_ready: Callable[[], None]) -> None:
        for child in self._children:
            child.start()
        while not self._asked:
            self._revive()
            if not self._was_ready and is_ready():
                self._was_ready = True
                on_ready()
            time.sleep(self._poll_seconds)

    def _revive(self) -> None:
        """Note who died, and start again whose pause is over."""
        now = time.monotonic()
        for child in self._children:
            name, status = child.program.name, child.ended()
            if status is not None and name not in self._due:
                self._due[name] = now + self._bury(child, status, now)
            elif status is not None and now >= self._due[name]:
                del self._due[name]
                child.start()

    def _bury(self, child: Child, status: int, now: float) -> float:
        """Count a death; returns the pause before the next start.

        Raises:
            GaveUpError: there were too many, or another start cannot help.
        """
        name = child.program.name
        if child.pid is not None:
            self._on_death(child.pid)
        if status == CONFIGURATION_ERROR:
            raise GaveUpError(f"{name} cannot run as it is configured; its reason is in {child.log}")
        deaths = self._deaths[name]
        most, seconds = self._policy.patience(is_ready=self._was_ready)
        deaths.append(now)
        while deaths[0] < now - seconds:
            deaths.popleft()
        if len(deaths) >= most:
            raise GaveUpError(
                f"{name} died {len(deaths)} times within {seconds:g} seconds "
                f"(last: {_reason(status)}); its last words are in {child.log}"
            )
        pause = self._policy.pause(len(deaths))
        self._tell(
            f"{name} died ({_reason(status)}); starting it again in {pause:g} s; "
            f"its last words are in {child.log}"
        )
        return pause

    def _stop(self) -> bool:
        """Stop the children, those of one command together, in order; says whether all went well."""
        clean = True
        for _, kind in groupby(self._children, lambda child: child.program.command):
            living = [child for child in kind if child.lives]
            for child in living:
                child.terminate()
            begun = time.monotonic()
            for child in living:
                clean = self._await_end(child, begun) and clean
            if len(self._asked) > 1:
                self._tell(f"Once more ({self._asked[1]}): ending everything at once")
                self._kill_all()
                return False
        return clean

    def _await_end(self, child: Child, begun: float) -> bool:
        """Wait for a child that was asked to stop at ``begun``; whether it went by itself and well."""
        name, grace = child.program.name, child.program.grace_seconds
        deadline = begun + grace
        while child.lives and len(self._asked) < 2 and time.monotonic() < deadline:
            time.sleep(min(0.02, self._poll_seconds))
        if child.lives:
            if len(self._asked) < 2:
                self._tell(f"{name} did not stop within {grace:g} s; ending it")
            child.kill()
            return False
        status = child.ended()
        if child.pid is not None:
            self._on_death(child.pid)
        if status not in (0, -signal.SIGTERM):
            self._tell(f"{name} stopped badly ({_reason(status or 0)}); its reason is in {child.log}")
            return False
        return True

    def _kill_all(self) -> None:
        for child in self._children:
            child.kill()


def _reason(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
