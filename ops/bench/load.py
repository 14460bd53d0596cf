"""A load generator so light that it does not blur what it measures: sockets, threads, prepared bytes."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from ops.complaint import Complaint

PIECE = 65_536


def request(url: str, path: str, body: Mapping[str, Any], key: str = "") -> bytes:
    """An HTTP/1.1 POST with a JSON body, ready to be sent over and over."""
    content = json.dumps(dict(body)).encode()
    fields = ("Content-Type: application/json", f"Content-Length: {len(content)}")
    return _head("POST", url, path, key, *fields) + content


def question(url: str, path: str, key: str = "") -> bytes:
    """The same for a GET."""
    return _head("GET", url, path, key)


def _head(method: str, url: str, path: str, key: str, *fields: str) -> bytes:
    bearer = [f"Authorization: Bearer {key}"] if key else []
    lines = [f"{method} {path} HTTP/1.1", f"Host: {urlsplit(url).netloc}", *bearer, *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class Connection:
    """One kept-alive connection."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname or "", place.port or 80), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def send(self, message: bytes) -> float:
        """Send a request and read its whole answer; returns the seconds that took.

        Raises:
            Complaint: the answer is not a success, or the connection broke.
        """
        begun = time.perf_counter()
        self._socket.sendall(message)
        head, _, rest = self._until(b"\r\n\r\n").partition(b"\r\n\r\n")
        length = _length(head)
        while len(rest) < length:
            rest += self._more()
        passed = time.perf_counter() - begun
        if head.split(b" ", 2)[1][:1] != b"2":
            said = head.splitlines()[0] + b" " + rest
            raise Complaint(f"A request was refused: {said.decode()[:500]}")
        return passed

    def _until(self, end: bytes) -> bytes:
        read = b""
        while end not in read:
            read += self._more()
        return read

    def _more(self) -> bytes:
        piece = self._socket.recv(PIECE)
        if not piece:
            raise Complaint("The server closed the connection in the middle of an answer.")
        return piece


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    raise Complaint("The answer does not say how long it is.")


def rate(url: str, message: bytes, count: int, connections: int) -> float:
    """Requests per second when ``connections`` clients share ``count`` of them."""
    shares = [count // connections + (number < count % connections) for number in range(connections)]
    start = threading.Barrier(connections + 1)

    def drive(share: int) -> None:
        connection = Connection(url)
        try:
            start.wait()
            for _ in range(share):
                connection.send(message)
        finally:
            connection.close()

    with ThreadPoolExecutor(connections) as pool:
        parts = [pool.submit(drive, share) for share in shares]
        start.wait()
        begun = time.perf_counter()
        for part in parts:
            part.result()
        return count / (time.perf_counter() - begun)


class Visitor:
    """Another client that sends the same request over and over while something else happens."""

    def __init__(self, url: str, message: bytes, pause_seconds: float = 0.005) -> None:
        self._connection = Connection(url)
        self._message = message
        self._pause_seconds = pause_seconds
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._visit, daemon=True)
        self._error: Complaint | None = None
        self.seconds: list[float] = []

    def __enter__(self) -> Sequence[float]:
        self._thread.start()
        return self.seconds

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()
        self._connection.close()
        if self._error is not None:
            raise self._error

    def _visit(self) -> None:
        try:
            while not self._leaving.wait(self._pause_seconds):
                self.seconds.append(self._connection.send(self._message))
        except Complaint as error:
            self._error = error
