"""What is said to the person at the terminal instead of a traceback."""

from __future__ import annotations

CONFIGURATION_ERROR = 2
"""The exit status for wrong settings: starting again cannot help."""


class Complaint(Exception):  # noqa: N818 - it is what the person reads, not an error of the program
    """A plain sentence that names the cure, and the exit code to leave with."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
