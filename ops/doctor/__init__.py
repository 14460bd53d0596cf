"""``penstock doctor``: looks at everything the service needs and says what to do about each.

Every check is a function that returns findings and raises nothing for what it
may expect to be broken; a check that breaks itself becomes a finding too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from config.settings import Settings
from config.sources import ConfigurationError, load
from ops.doctor import device, llms, machine, service, storage
from ops.doctor.finding import Finding, fail, ok

__all__ = ["Finding", "examine"]

WITH_SETTINGS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    machine.data_directory,
    storage.database,
    storage.broker,
    llms.weights,
    llms.tokenizers,
    device.accelerator,
    storage.key_file,
    service.workers,
    service.door,
)
"""The checks that need settings, in the order in which a start would meet their troubles."""


def examine(data_dir: Path | None) -> Iterator[Finding]:
    """All findings, as they are made."""
    yield from machine.import_names()
    yield from machine.python()
    try:
        settings = load({"data_dir": data_dir})
    except ConfigurationError as error:
        yield fail("settings", str(error), "put the settings named right, then run the doctor again")
        return
    yield ok("settings", f"environment {settings.environment}, data in {settings.data_dir}")
    for check in WITH_SETTINGS:
        yield from _guarded(check, settings)


def _guarded(check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> Iterator[Finding]:
    try:
        yield from check(settings)
    except Exception as error:  # noqa: BLE001 - the doctor's own trouble must not hide the other findings
        subject = check.__name__.replace("_", " ")
        yield fail(subject, f"cannot be examined: {type(error).__name__}: {error}", "see the message")
