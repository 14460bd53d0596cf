"""Ended jobs as lines of JSON in compressed files, one for each month, written before their rows go."""

from __future__ import annotations

import gzip
import os
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path

from models.archive import Record

FOLDER = "archive"


class Archive:
    """Appends jobs to ``<data-dir>/archive/jobs-<year>-<month>.jsonl.gz``, by the month in which they ended.

    A file is a row of gzip members, one for each call, on the disk when the call
    returns. A crash may leave half a member at the end, behind which nothing
    could be read any more. So a file is only ever continued by whoever began it,
    and only while it ends where the last call left it; else the next one is begun:
    ``jobs-<year>-<month>.2.jsonl.gz`` and so on. Other processes may do the same
    at the same time, and what is there already is never changed.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER
        self._files: dict[str, tuple[Path, int]] = {}

    def keep(self, records: Iterable[Record]) -> None:
        """Write all of them and wait for the disk.

        What was written of them before an error is written again by the next call: a
        job may stand there twice, and both lines say the same.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        months: defaultdict[str, list[bytes]] = defaultdict(list)
        for record in records:
            months[f"{record.ended:%Y-%m}"].append(record.line)
        for month, lines in months.items():
            file = self._file(month)
            self._files[month] = file, _append(file, gzip.compress(b"".join(lines), compresslevel=6))

    def _file(self, month: str) -> Path:
        """The file that this month's jobs are to be appended to."""
        file, end = self._files.get(month, (None, 0))
        if file is None or not file.exists() or file.stat().st_size != end:
            file = self._begin(month)
            self._files[month] = file, 0
        return file

    def _begin(self, month: str) -> Path:
        """A new file that only its owner may read, and that a power cut does not take away."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in count(1):
            file = self._folder / f"jobs-{month}{'' if number == 1 else f'.{number}'}.jsonl.gz"
            with suppress(FileExistsError):
                os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
                break
        for folder in (self._folder, self._folder.parent):
            _sync(folder)
        return file


def _append(file: Path, member: bytes) -> int:
    """Write a member whole, or leave the file as it was; returns where it ends."""
    with file.open("r+b", buffering=0) as stream:
        before, rest = stream.seek(0, os.SEEK_END), memoryview(member)
        try:
            while rest:
                rest = rest[stream.write(rest) :]
            os.fsync(stream.fileno())
        except OSError:
            with suppress(OSError):  # else the next call will begin another file
                stream.truncate(before)
            raise
        return stream.tell()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
