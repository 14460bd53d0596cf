"""The machine and the Python that runs here."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
from collections.abc import Iterator

from config.settings import Settings
from ops.cli import guard
from ops.doctor.finding import Finding, fail, ok, warn

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
OLDEST_GLIBC, OLDEST_MACOS = (2, 35), (14, 0)
LITTLE_BYTES, TOO_LITTLE_BYTES = 2 * 2**30, 200 * 2**20


def import_names() -> Iterator[Finding]:
    """Whether our generic names lead to our own folders."""
    foreign = guard.foreign_rooms()
    if foreign:
        yield fail("import names", guard.complaint(foreign), "use an environment of its own")
    else:
        yield ok("import names", f"all lead to {guard.ROOT}")


def python() -> Iterator[Finding]:
    """Whether this Python and this system are among those that MLX has wheels for."""
    here = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < OLDEST_PYTHON:
        yield fail("python", here, "install Python 3.11 or newer and run make again")
    elif sys.version_info[:2] > NEWEST_PYTHON:
        yield warn("python", f"{here} is newer than what was tried", "Python 3.11 to 3.13 is known to work")
    elif complaint := _system_complaint():
        yield warn("python", f"{here}; {complaint}", "MLX may have no wheel for this system")
    else:
        yield ok("python", here)


def _system_complaint() -> str | None:
    system = platform.system()
    if system == "Darwin":
        release = _version(platform.mac_ver()[0])
        if platform.machine() != "arm64":
            return "MLX needs Apple silicon"
        return None if release >= OLDEST_MACOS else "MLX needs macOS 14 or newer"
    if system == "Linux":
        kind, release_text = platform.libc_ver()
        known = kind == "glibc" and _version(release_text) >= OLDEST_GLIBC
        here = f"{kind} {release_text}" if kind else "no glibc"
        return None if known else f"MLX needs glibc 2.35 or newer, here is {here}"
    return "only macOS and Linux are supported"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def data_directory(settings: Settings) -> Iterator[Finding]:
    """Its rights, and the room on its disk."""
    folder = settings.data_dir
    if not folder.exists():
        place = next(parent for parent in folder.parents if parent.exists())
        if not os.access(place, os.W_OK):
            yield fail("data directory", f"{folder} cannot be made", "name another with --data-dir")
            return
        yield ok("data directory", f"{folder} will be made by `penstock up`")
        yield _disk(shutil.disk_usage(place).free)
        return
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield fail("data directory", f"{folder} cannot be written", f"make it yours, or chmod u+rwx {folder}")
    elif mode & 0o077:
        yield warn("data directory", f"{folder} is open to others ({mode:o})", f"chmod 700 {folder}")
    else:
        yield ok("data directory", f"{folder}, readable by you alone")
    yield _disk(shutil.disk_usage(folder).free)


def _disk(free: int) -> Finding:
    says = f"{free / 2**30:.1f} GiB free"
    cure = "make room: the database stops taking jobs when the disk is full"
    if free < TOO_LITTLE_BYTES:
        return fail("disk", says, cure)
    return warn("disk", says, cure) if free < LITTLE_BYTES else ok("disk", says)
