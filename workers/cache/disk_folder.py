"""The folder of the disk tier: files that are there whole or not at all, for their owner's eyes only.

``<folder>/<begin of the fingerprint>-<version>/<two digits>/<digest>[.<mark>].safetensors``,
the mark being that of the agent it belongs to. What is damaged goes to
``<folder>/damaged``. One process at a time uses a folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG

from workers.cache.disk_format import VERSION, Packed

SUFFIX = ".safetensors"

TEMPORARY = ".tmp"

DAMAGED = "damaged"

KEPT_DAMAGED = 8
"""Files that are kept for whoever wants to know what happened to them."""

MARK = 16
"""Hex digits that an agent, or an LLM's fingerprint, is told by in a path."""


def mark(owner: str | None) -> str:
    """What stands for an agent in the names of its files; empty for nobody."""
    return sha256(owner.encode()).hexdigest()[:MARK] if owner is not None else ""


def is_scarcity(error: Exception) -> bool:
    """Whether it is the process that lacks something, and nothing is wrong with the file."""
    return isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@dataclass(frozen=True, slots=True)
class File:
    """A file as the folder lists it.

    ``is_ours``: it stands where this LLM's do. ``is_regular``: it is neither folder nor link nor pipe.
    """

    path: Path
    nbytes: int
    used_at: float = 0.0
    is_ours: bool = False
    is_regular: bool = True

    @property
    def digest(self) -> str:
        """The SHA-256 that its header should have."""
        return self.path.name.partition(".")[0]

    @property
    def owner(self) -> str:
        """The mark of the agent it belongs to, or empty."""
        return mark_of(self.path)


def mark_of(path: Path) -> str:
    """The mark in the name of a file, empty if nobody owns it."""
    return path.name.removesuffix(SUFFIX).partition(".")[2]


class BlockFolder:
    """Lists, writes, moves and removes; every method may raise OSError.

    All but :meth:`claim` and :meth:`release` are for one thread.
    """

    def __init__(self, root: Path, fingerprint: str) -> None:
        self._root = root
        self._ours = root / f"{fingerprint[:MARK]}-{VERSION}"
        self._lock: int | None = None

    def claim(self) -> bool:
        """Make the folder if need be, and take it for this process; False while another one has it."""
        _make(self._root)
        lock = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if isinstance(error, BlockingIOError):
                return False
            raise
        self._lock = lock
        return True

    def release(self) -> None:
        """Let another process have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def tidy(self) -> None:
        """Remove what a crash left half-written."""
        for path in [path for path in _below(self._root) if path.suffix == TEMPORARY]:
            path.unlink()

    def files(self) -> list[File]:
        """All files, half-written ones too, the one that was used longest ago first."""
        files = []
        for path in _below(self._root):
            if path.suffix in {SUFFIX, TEMPORARY}:
                stat = path.lstat()
                is_ours, is_regular = self._is_ours(path), S_ISREG(stat.st_mode)
                files.append(File(path, stat.st_size, stat.st_mtime, is_ours, is_regular))
        return sorted(files, key=lambda file: file.used_at)

    def place(self, packed: Packed, owner: str) -> Path:
        """Where a file of the agent with this mark is to stand."""
        return self._path(packed.digest, owner)

    def write(self, path: Path, packed: Packed) -> None:
        """Write a file and wait for the disk: it is there whole, or not at all."""
        _make(path.parent)
        temporary = path.with_suffix(TEMPORARY)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(packed.header)
                stream.writelines(packed.arrays)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except OSError:
            with suppress(OSError):  # else the next start removes it
                temporary.unlink()
            raise
        _sync(path.parent)

    def give(self, path: Path, owner: str) -> Path:
        """Let a file belong to the agent with this mark; returns its new path."""
        new = self._path(path.name.partition(".")[0], owner)
        path.replace(new)
        return new

    def remove(self, path: Path) -> None:
        """Remove a file that may be gone already; another LLM's last one with its folders."""
        _delete(path)
        if not self._is_ours(path) and path.parent.parent != self._root:
            with suppress(OSError):  # there are others
                path.parent.rmdir()
                path.parent.parent.rmdir()

    def sync(self, paths: Iterable[Path]) -> None:
        """Wait until the disk knows that these files have been removed or renamed."""
        for folder in {path.parent for path in paths}:
            _sync(next(above for above in (folder, *folder.parents) if above.exists()))

    def set_aside(self, path: Path) -> tuple[File | None, list[Path]]:
        """Move a damaged file away; returns what it is now, if it was there, and which others had to go."""
        damaged = self._root / DAMAGED
        _make(damaged)
        new = damaged / f"{time.time_ns()}-{path.name}"
        try:
            path.replace(new)
        except FileNotFoundError:
            return None, []
        gone = sorted(damaged.iterdir())[:-KEPT_DAMAGED]
        for old in gone:
            _delete(old)
        return File(new, new.lstat().st_size), gone

    def free_bytes(self) -> int:
        """Room that the file system has left."""
        return shutil.disk_usage(self._root).free

    def _is_ours(self, path: Path) -> bool:
        return path.parent.parent == self._ours

    def _path(self, digest: str, owner: str) -> Path:
        name = f"{digest}.{owner}{SUFFIX}" if owner else f"{digest}{SUFFIX}"
        return self._ours / digest[:2] / name


def _below(folder: Path) -> Iterator[Path]:
    """All that could be files of ours under a folder; one that is named like a file is not looked into."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False) and path.suffix != SUFFIX:
                yield from _below(path)
            else:
                yield path


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _make(folder: Path) -> None:
    """Make a folder that nobody else may read, with those above it; a power cut does not take it away."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        _make(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
