"""The pulse: cancels are seen within 250 ms whatever else goes on, and a stalled engine ends its process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
from pydantic import ValidationError

from config.settings import Worker as WorkerSettings
from models.database import Database, Unavailable
from models.ids import new_id
from tests.models.desk import WORKER, Desk
from tests.service import PATIENCE, wait_until
from workers.commands import Commands
from workers.control import Control
from workers.identity import Identity


class Pen:
    """Writes down what is done, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        """One thing more."""
        self.lines.append(line)


class Patient:
    """A worker that notes what its pulse does with it; it is its own identity."""

    worker_id = WORKER

    def __init__(self) -> None:
        self.pen = Pen()
        self.cancelled: list[tuple[str, int]] = []
        self.beating, self.let_go = threading.Event(), threading.Event()
        self.busy, self.stalled = True, False
        self.identity = cast(Identity, self)

    def is_busy(self) -> bool:
        """Whether there are jobs."""
        return self.busy

    def is_stalled(self) -> bool:
        """Whether the engine stands still."""
        return self.stalled

    def cancel(self, job_id: str, fence: int) -> None:
        """Note a cancel."""
        self.pen.write("cancel")
        self.cancelled.append((job_id, fence))

    def figures(self) -> dict[str, Any]:
        """Where the heart stops: nothing goes on before it is let go."""
        self.beating.set()
        self.let_go.wait(PATIENCE)
        return {}

    def beat(self, _figures: dict[str, Any]) -> bool:
        """Note a beat."""
        self.pen.write("beat")
        return True

    def publish(self) -> None:
        """Note that metrics were told."""
        self.pen.write("publish")

    def disown_strangers(self) -> None:
        """Nothing is strange here."""

    def give_up_jobs(self) -> None:
        """Nothing is given up here."""

    def register(self) -> None:
        """Never asked."""

    def die(self) -> None:
        """Note the death, which ends the stall."""
        self.pen.write("die")
        self.stalled = False


class Steps(threading.Event):
    """A stop event on which nobody waits: it notes for how long they would have, and stops after some."""

    def __init__(self, pen: Pen, rounds: int) -> None:
        super().__init__()
        self._pen = pen
        self._left = rounds

    def wait(self, timeout: float | None = None) -> bool:
        """Pass the time."""
        self._pen.write(f"{timeout} s")
        self._left -= 1
        return self._left < 0


@pytest.fixture
def desk(sqlite_database: Database) -> Desk:
    """A database with one running job whose cancel flag is up."""
    desk = Desk(sqlite_database)
    desk.submit()
    desk.request_cancel(desk.take().job_id)
    return desk


@pytest.fixture
def patient() -> Iterator[Patient]:
    """A worker, let go at the end."""
    patient = Patient()
    yield patient
    patient.let_go.set()


def looked(desk: Desk, patient: Patient, rounds: int) -> list[str]:
    """What a control does that looks so many times, and for how long it rests in between."""
    control = Control(desk.database, WorkerSettings(), patient)
    control._stopping = Steps(patient.pen, rounds)
    control._repeat(0.1, control._look)
    return patient.pen.lines


def test_cancels_are_looked_for_ten_times_a_second(desk: Desk, patient: Patient) -> None:
    """At every look of a busy worker the flags come first, and nothing in a look waits for anybody."""
    assert looked(desk, patient, 3) == ["0.1 s", "cancel", "publish"] * 3 + ["0.1 s"]
    assert WorkerSettings().control_ms == 100


def test_an_idle_worker_does_not_read(desk: Desk, patient: Patient) -> None:
    """Without jobs nobody's flags are asked for."""
    patient.busy = False
    assert looked(desk, patient, 2) == ["0.1 s", "publish"] * 2 + ["0.1 s"]


def test_looks_cannot_be_rarer_than_what_is_promised() -> None:
    """A flag is seen within 250 ms: settings beyond that are refused."""
    assert WorkerSettings(control_ms=250).control_ms == 250
    with pytest.raises(ValidationError, match="250"):
        WorkerSettings(control_ms=251)


def test_a_heartbeat_that_waits_delays_no_cancel(desk: Desk, patient: Patient) -> None:
    """While a beat waits for the database's lock, flags are seen all the same."""
    control = Control(desk.database, WorkerSettings(control_ms=10, heartbeat_ms=50), patient)
    control.start()
    assert patient.beating.wait(PATIENCE)
    patient.cancelled.clear()
    wait_until(lambda: len(patient.cancelled) > 0)
    assert "beat" not in patient.pen.lines
    patient.let_go.set()
    wait_until(lambda: "beat" in patient.pen.lines)
    control.stop()


def test_a_stop_does_not_wait_for_a_heartbeat(desk: Desk, patient: Patient) -> None:
    """A beat that hangs is left behind."""
    control = Control(desk.database, WorkerSettings(heartbeat_ms=50), patient)
    control.start()
    assert patient.beating.wait(PATIENCE)
    control.stop(0.01)
    assert "beat" not in patient.pen.lines


class Looker:
    """Looks for commands, and says so."""

    def __init__(self, pen: Pen) -> None:
        self.pen = pen
        self.waits, self.let_go = threading.Event(), threading.Event()

    def look(self) -> None:
        """Where a look waits for the database's lock: until it is let go."""
        self.waits.set()
        self.let_go.wait(PATIENCE)
        self.pen.write("commands")

    def close(self) -> None:
        """Note the end."""
        self.pen.write("closed")


def test_commands_are_looked_for_beside_cancels(desk: Desk, patient: Patient) -> None:
    """Not before the LLM is loaded; a look that waits for a lock delays no cancel, and is the last to end."""
    control = Control(desk.database, WorkerSettings(control_ms=10, heartbeat_ms=50), patient)
    looker = Looker(patient.pen)
    control.start()
    wait_until(lambda: len(patient.cancelled) > 1)
    assert not looker.waits.is_set()
    control.obey(cast(Commands, looker))
    assert looker.waits.wait(PATIENCE)
    patient.cancelled.clear()
    wait_until(lambda: len(patient.cancelled) > 1)
    assert "commands" not in patient.pen.lines
    looker.let_go.set()
    wait_until(lambda: patient.pen.lines.count("commands") > 1)
    patient.let_go.set()
    control.stop()
    assert patient.pen.lines[-1] == "closed"


def test_the_pulse_outlives_an_outage(desk: Desk, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that finds no database is followed by the next one."""
    cancels = iter([Unavailable("locked"), [(new_id("job"), 1)]])

    def ask(*_: object) -> Any:
        found = next(cancels)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr("workers.control.jobs.cancels_for", ask)
    assert looked(desk, patient, 2) == ["0.1 s", "0.1 s", "cancel", "publish", "0.1 s"]


def test_a_stalled_engine_ends_the_process(
    desk: Desk, patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    """A step that does not end is told loudly and once, and cancels go on being looked for."""
    patient.stalled = True
    look = ["cancel", "publish", "0.1 s"]
    assert looked(desk, patient, 2) == ["0.1 s", "die", *look, *look]
    assert "does not come to an end" in caplog.text
