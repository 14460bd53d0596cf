"""The console script ``penstock``. What a command needs is imported when it runs, so help is quick."""

from __future__ import annotations

import os
import sys

from ops.cli import guard
from ops.complaint import CONFIGURATION_ERROR, Complaint
from ops.lifeline import hold

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells give it."""


def main() -> None:
    """Run the command that the process's arguments name, and leave with its exit status."""
    hold()
    foreign = guard.foreign_rooms()
    if foreign:
        _leave(guard.complaint(foreign), CONFIGURATION_ERROR)
    from ops.cli.app import app

    try:
        app(prog_name="penstock")
    except Complaint as complaint:
        _leave(str(complaint), complaint.code)
    except KeyboardInterrupt:
        _leave("Stopped.", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not try to flush it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _leave(message: str, code: int) -> None:
    print(f"penstock: {message}", file=sys.stderr)
    sys.exit(code)
