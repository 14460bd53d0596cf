"""What surrounds the service and goes wrong: a Redis that loses words, a lock never free, a full disk."""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

PIECE = 65_536


class Proxy:
    """Stands between the service and Redis on a TCP port, and hangs up on some requests and replies.

    A request that is cut off was never sent on; a reply that is cut off tells of something that was done.
    """

    def __init__(self, path: str, rng: Random, share: float) -> None:
        self._path = path
        self._rng = rng
        self.share = share
        self.cuts = 0
        self._open = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._open = False
        self._listener.close()

    def _listen(self) -> None:
        while self._open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            server.connect(self._path)
        except OSError:  # Redis is down at the moment
            client.close()
            server.close()
            return
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(PIECE):
                if self._rng.random() < self.share:
                    self.cuts += 1
                    break
                sink.sendall(data)
        except OSError:
            pass  # the other direction has hung up
        for end in (source, sink):
            end.close()


@contextmanager
def busy_storm(file: Path, rng: Random, longest_seconds: float) -> Iterator[None]:
    """Another program that takes SQLite's one write lock again and again, for up to so long."""
    leaving = threading.Event()

    def hold() -> None:
        connection = sqlite3.connect(file, timeout=60, isolation_level=None)
        while not leaving.wait(rng.random() * 0.05):
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(rng.random() * longest_seconds)
            connection.execute("ROLLBACK")
        connection.close()

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    yield
    leaving.set()
    thread.join()


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Take all the room that is left on a file system."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(1 << 16))
        except OSError:
            pass
        try:
            while True:
                stream.write(b"\0")
        except OSError:
            pass
    yield
    filler.unlink()


def can_fill_disks() -> bool:
    """Whether this machine lets us make a small file system."""
    return sys.platform == "linux" and os.getuid() == 0
