"""One child process: started in a session of its own, its words in a file, ended as a group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ops.lifeline import Lifeline

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Program:
    """What a child runs. ``environment`` comes on top of ours: secrets never go on a command line."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    grace_seconds: float = 10.0


def penstock(*arguments: str) -> tuple[str, ...]:
    """The command that runs our own console script, whatever folder it is started in."""
    return (sys.executable, "-P", "-m", "ops.cli", *arguments)


class Child:
    """A program that runs, or has run."""

    def __init__(self, program: Program, log: Path, lifeline: Lifeline) -> None:
        self.program = program
        self.log = log
        self._lifeline = lifeline
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id; None before the first start."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the program, anew if it has run before."""
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            **self.program.environment,
            **self._lifeline.variables(),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.program.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self._lifeline.read_end,),
                start_new_session=True,
            )

    def ended(self) -> int | None:
        """The exit status (minus the signal's number if one ended it); None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def lives(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def terminate(self) -> None:
        """Ask it to stop; what it started itself is its own to stop."""
        if self.lives and self._process is not None:
            self._process.terminate()

    def wait(self, seconds: float) -> None:
        """Return when it has ended; end it when that takes longer than ``seconds``."""
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it and all of its group at once."""
        if self.lives and self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
