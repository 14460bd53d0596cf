"""Signals: a stop is heard whatever the main thread is at, and never waits for itself."""

from __future__ import annotations

import subprocess
import sys

from tests.repository import PROJECT
from tests.service import PATIENCE
from workers.signals import EXIT_AT_ONCE

# Within wait(), a signal at the first line that runs, then at the second, and so on.
AT_EACH_LINE = """
import os, signal, sys
from workers.signals import StopSignal

def run(at):
    left = at
    def trace(*seen):
        nonlocal left
        left -= seen[1] == "line"
        if left == 0:
            left = -1
            os.kill(os.getpid(), signal.SIGTERM)
        return trace
    stop = StopSignal()
    sys.settrace(trace)
    stop.wait(0.01)
    sys.settrace(None)
    if left < 0:
        assert stop.wait()
    return left < 0

for at in range(1, 100):
    if not run(at):
        break
print(at)
"""

FROM_A_THREAD = """
import threading
from workers.signals import StopSignal
stop = StopSignal()
assert not stop.wait(0.01)
assert not stop.is_set
threading.Timer(0.01, stop.set).start()
assert stop.wait()
assert stop.is_set
for _ in range(100_000):
    stop.set()
"""

TWICE = """
import os, signal
from workers.signals import StopSignal
stop = StopSignal()
os.kill(os.getpid(), signal.SIGINT)
assert stop.wait()
os.kill(os.getpid(), signal.SIGTERM)
stop.wait()
print("still here")
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """A program of its own, for handlers belong to a process; it is ended when it hangs."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_signal_at_any_moment_of_the_wait_is_heard() -> None:
    """The handler waits for nothing that the interrupted thread may hold."""
    done = run(AT_EACH_LINE)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 1


def test_a_stop_can_be_asked_for_by_any_thread() -> None:
    """It ends the wait, and may be asked for any number of times."""
    done = run(FROM_A_THREAD)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_second_signal_ends_at_once() -> None:
    """Whoever asks twice does not want to wait."""
    done = run(TWICE)
    assert (done.returncode, done.stdout) == (EXIT_AT_ONCE, "")
