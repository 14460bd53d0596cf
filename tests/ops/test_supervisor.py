"""The supervisor, with children that do nothing but live, die or refuse to die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from config.settings import Queue
from models.database import Database
from ops.lifeline import Lifeline
from ops.supervisor.child import Child, Program
from ops.supervisor.supervisor import Policy, Supervisor
from ops.supervisor.up import Readiness, diary
from tests.ops.conftest import wait_until

QUICK = Policy(first_pause=0.05, longest_pause=0.4, deaths_at_start=4, deaths_once_ready=6)
LIVES = "import time; time.sleep(60)"
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('deaf', flush=True)
time.sleep(60)
"""
HELD = """
import time
from ops.lifeline import hold
assert hold(0.5)
print('held', flush=True)
time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
def make_child(tmp_path: Path) -> Callable[..., Child]:
    """Make children that run a line of Python."""
    lifeline = Lifeline()

    def make(name: str, code: str, grace_seconds: float = 10) -> Child:
        program = Program(name, (sys.executable, "-c", code), {}, grace_seconds)
        return Child(program, tmp_path / f"{name}.log", lifeline)

    return make


def run(children: list[Child], is_ready: Callable[[], bool], seconds: float = 20) -> int:
    """Supervise until ``is_ready``, then ask for a stop."""
    supervisor = Supervisor(children, QUICK, poll_seconds=0.01)
    guard = threading.Timer(seconds, supervisor.stop_soon)
    guard.start()
    try:
        return supervisor.run(is_ready, supervisor.stop_soon)
    finally:
        guard.cancel()


def test_starts_all_and_stops_all(make_child: Callable[..., Child]) -> None:
    """Every child lives when the service is ready, none does after a stop, and that is status 0."""
    children = [make_child("one", LIVES), make_child("two", LIVES)]
    assert run(children, lambda: all(child.lives for child in children)) == 0
    assert all(child.pid for child in children)
    assert not any(child.lives for child in children)


def test_a_dead_child_is_started_again_after_growing_pauses(
    make_child: Callable[..., Child], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A child that dies twice is started a third time after longer pauses, and each time it is told why."""
    births = tmp_path / "births"
    code = f"""
        import pathlib, sys, time
        births = pathlib.Path({str(births)!r})
        with births.open("a") as file: file.write(f"{{time.monotonic()}}\\n")
        if len(births.read_text().split()) < 3: sys.exit(7)
        time.sleep(60)
    """
    child = make_child("mortal", textwrap.dedent(code))
    assert run([child], lambda: births.exists() and len(births.read_text().split()) == 3) == 0
    first, second, third = map(float, births.read_text().split())
    assert second - first >= QUICK.pause(1)
    assert third - second >= QUICK.pause(2) > QUICK.pause(1)
    told = capsys.readouterr().err.splitlines()
    again = "mortal died (exit status 7); starting it again in {} s; its last words are in {}"
    assert told[:2] == [again.format(pause, child.log) for pause in ("0.05", "0.1")]


def test_gives_up_on_a_child_that_keeps_dying(
    make_child: Callable[..., Child], capsys: pytest.CaptureFixture[str]
) -> None:
    """After too many deaths the supervisor stops the others, says who died, and fails."""
    lives = make_child("healthy", LIVES)
    assert run([lives, make_child("sick", "raise SystemExit(7)")], lambda: False) == 1
    assert "sick died 4 times within 60 seconds" in capsys.readouterr().err
    assert not lives.lives


def test_more_deaths_are_borne_once_the_service_was_ready(
    make_child: Callable[..., Child], capsys: pytest.CaptureFixture[str]
) -> None:
    """A child that was fine may be killed by its work, again and again, before nobody expects more of it."""
    supervisor = Supervisor([make_child("sick", "raise SystemExit(7)")], QUICK, poll_seconds=0.01)
    assert supervisor.run(lambda: True, lambda: None) == 1
    assert "sick died 6 times within 600 seconds" in capsys.readouterr().err


def test_a_job_that_kills_its_worker_does_not_end_the_service() -> None:
    """A worker may die for every attempt that a job can have, and twice more; a broken start is seen soon."""
    policy, attempts = Policy(), Queue(max_attempts=20).max_attempts
    assert policy.patience(is_ready=False) == (5, 60.0)
    assert policy.patience(is_ready=True) == (30, 600.0)
    assert policy.deaths_once_ready > attempts + 2


def test_wrong_settings_are_not_tried_again(
    make_child: Callable[..., Child], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2 means wrong settings, which another start cannot put right."""
    assert run([make_child("misled", "raise SystemExit(2)")], lambda: False) == 1
    assert "cannot run as it is configured" in capsys.readouterr().err


def test_children_stop_one_after_the_other(make_child: Callable[..., Child], tmp_path: Path) -> None:
    """The first child has ended before the second is asked to stop."""
    diary = tmp_path / "diary"
    code = """
        import pathlib, signal, sys, time
        def stop(*_):
            with pathlib.Path({diary!r}).open("a") as file:
                file.write("{name} asked\\n"); file.flush(); time.sleep(0.2); file.write("{name} gone\\n")
            sys.exit(0)
        signal.signal(signal.SIGTERM, stop)
        pathlib.Path({diary!r} + ".{name}").touch()
        time.sleep(60)
    """
    names = ("door", "worker")
    children = [make_child(n, textwrap.dedent(code.format(name=n, diary=str(diary)))) for n in names]
    assert run(children, lambda: all(Path(f"{diary}.{name}").exists() for name in names)) == 0
    assert diary.read_text().split("\n")[:4] == ["door asked", "door gone", "worker asked", "worker gone"]


def test_children_of_one_kind_stop_together(make_child: Callable[..., Child], tmp_path: Path) -> None:
    """Those that run the same command are all asked before the first is waited for."""
    diary = tmp_path / "diary"
    code = f"""
        import pathlib, signal, sys, time
        diary = pathlib.Path({str(diary)!r})
        def note(word):
            with diary.open("a") as file: file.write(word + "\\n")
        def stop(*_):
            note("asked")
            while diary.read_text().count("asked") < 2: time.sleep(0.01)
            note("gone")
            sys.exit(0)
        signal.signal(signal.SIGTERM, stop)
        note("up")
        time.sleep(60)
    """
    children = [make_child(name, textwrap.dedent(code), 5) for name in ("one", "two")]
    assert run(children, lambda: diary.exists() and diary.read_text().count("up") == 2) == 0
    assert diary.read_text().split("\n")[2:6] == ["asked", "asked", "gone", "gone"]


def test_a_child_that_does_not_stop_is_ended_and_that_is_not_clean(
    make_child: Callable[..., Child], capsys: pytest.CaptureFixture[str]
) -> None:
    """When the grace time is over a child is killed, and the stop counts as a failure."""
    child = make_child("deaf", DEAF, grace_seconds=0.2)
    assert run([child], lambda: child.log.read_text() == "deaf\n") == 1
    assert not child.lives
    assert "did not stop within 0.2 s" in capsys.readouterr().err


def test_a_second_signal_ends_everything_at_once(
    make_child: Callable[..., Child], capsys: pytest.CaptureFixture[str]
) -> None:
    """The second signal does not wait for anybody's grace time, and both are told by their names."""
    child = make_child("deaf", DEAF, grace_seconds=30)
    supervisor = Supervisor([child], QUICK, poll_seconds=0.01)

    def insist() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        again = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        again.start()

    begun = time.monotonic()
    assert supervisor.run(lambda: child.log.exists() and child.log.read_text() == "deaf\n", insist) == 1
    assert time.monotonic() - begun < 10
    assert not child.lives
    told = capsys.readouterr().err.splitlines()
    assert told == ["Stopping: SIGTERM", "Once more (SIGINT): ending everything at once"]


def test_a_signal_never_meets_a_lock(make_child: Callable[..., Child]) -> None:
    """The supervisor waits without events: their lock is held while a signal's handler would ask for it."""
    supervisor = Supervisor([make_child("one", LIVES)], QUICK, poll_seconds=0.01)
    entered: set[str] = set()
    looks = iter(range(4))

    def is_ready() -> bool:
        sys.setprofile(lambda frame, *_: entered.add(frame.f_code.co_filename))
        return next(looks) == 3

    def stop() -> None:
        sys.setprofile(None)
        supervisor.stop_soon()

    assert supervisor.run(is_ready, stop) == 0
    assert any(name.endswith("supervisor.py") for name in entered)
    assert threading.__file__ not in entered


def test_a_hang_up_that_was_ignored_stays_ignored(
    make_child: Callable[..., Child], capsys: pytest.CaptureFixture[str]
) -> None:
    """Under nohup the service goes on when the terminal is closed; without, a hang-up asks for a stop."""
    supervisor = Supervisor([make_child("one", LIVES)], QUICK, poll_seconds=0.01)
    ending = threading.Timer(0.3, supervisor.stop_soon)

    def hang_up() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        ending.start()

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert supervisor.run(lambda: True, hang_up) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
        ending.cancel()
    assert capsys.readouterr().err == "Stopping: asked to\n"


def test_the_diary_keeps_what_was_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the supervisor says stands in its log too, with the time; without one it is said all the same."""
    diary(tmp_path / "up.log")("one died")
    diary(tmp_path / "no folder" / "up.log")("two died")
    assert capsys.readouterr().err == "one died\ntwo died\n"
    day, _, words = (tmp_path / "up.log").read_text().split(" ", 2)
    assert (len(day), words) == (10, "up: one died\n")


def test_a_database_that_is_away_is_waited_for() -> None:
    """Until it answers the service is not ready, and that is all."""
    database = Database.connect("postgresql://127.0.0.1:9/none")
    assert not Readiness("http://127.0.0.1:9", database, [], ("pico",)).look()
    database.close()


def test_children_notice_that_their_supervisor_was_killed(tmp_path: Path) -> None:
    """After kill -9 of the process that holds the lifeline, a child that watches it ends by itself."""
    code = f"""
        import pathlib, sys, time
        from ops.lifeline import Lifeline
        from ops.supervisor.child import Child, Program
        program = Program("c", (sys.executable, "-c", {HELD!r}))
        child = Child(program, pathlib.Path({str(tmp_path / "log")!r}), Lifeline())
        child.start()
        print(child.pid, flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    wait_until(lambda: (tmp_path / "log").read_text() == "held\n")
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not is_alive(pid), seconds=10)
