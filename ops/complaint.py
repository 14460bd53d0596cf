"""What is said to the person at the terminal instead of a traceback."""

from __future__ import annotations

CONFIGURATION_ERROR = 2
"""The exit status for wrong settings: starting again cannot help."""


class Complaint(Exception):  # noqa: N818 - it is what the person reads, not an error of the program
    """A plain sentence that names the cure, and the exit code to leave with."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def as_complaint(error: Exception) -> Complaint | None:
    """What to say of an error that its reader can cure; None for any other, whose traceback we need."""
    if isinstance(error, Complaint):
        return error
    import migrations
    from config.sources import ConfigurationError
    from models.database import Unavailable

    if isinstance(error, ConfigurationError | migrations.SchemaError):
        return Complaint(str(error), CONFIGURATION_ERROR)
    if isinstance(error, Unavailable):
        return Complaint(
            f"The database cannot be used: {error}. "
            "Start it, make room for it, or put database.url right; `penstock doctor` looks further."
        )
    return None
