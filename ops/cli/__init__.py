"""The console script ``penstock``. What a command needs is imported when it runs, so help is quick."""

from __future__ import annotations

import sys

from ops.cli import guard
from ops.complaint import CONFIGURATION_ERROR, as_complaint
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
    except KeyboardInterrupt:
        _leave("Stopped.", INTERRUPTED)
    except BrokenPipeError:
        from ops.show import hush

        hush(sys.stdout)  # whoever read it has gone
        sys.exit(1)
    except Exception as error:
        complaint = as_complaint(error)
        if complaint is None:
            raise
        _leave(str(complaint), complaint.code)


def _leave(message: str, code: int) -> None:
    print(f"penstock: {message}", file=sys.stderr)
    sys.exit(code)
