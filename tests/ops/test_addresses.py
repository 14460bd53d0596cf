"""Addresses and ports of a service."""

from __future__ import annotations

import socket

import pytest

from config.settings import is_loopback
from ops.addresses import address, claim_port
from ops.complaint import Complaint


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("[::1]", "http://[::1]:80"),
        ("example.org", "http://example.org:80"),
    ],
)
def test_how_a_client_spells_it(host: str, url: str) -> None:
    """A service that listens everywhere is reached by loopback; IPv6 stands in brackets."""
    assert address(host, 80) == url


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False), ("a.example", False)],
)
def test_what_stays_on_this_machine(host: str, local: bool) -> None:
    """Loopback addresses and `localhost` do, all others may be reached from elsewhere."""
    assert is_loopback(host) is local


def test_a_taken_port() -> None:
    """A port that somebody listens on is refused with the cure, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(Complaint, match="--port 0"):
            claim_port("127.0.0.1", taken.getsockname()[1])
        assert claim_port("127.0.0.1", 0) != taken.getsockname()[1]
