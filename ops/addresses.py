"""Addresses: which port is free, how a client spells them."""

from __future__ import annotations

import socket

from ops.complaint import Complaint

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, never bound


def claim_port(host: str, port: int) -> int:
    """The port to serve on, a free one for 0.

    Raises:
        Complaint: somebody else listens there, or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            raise Complaint(
                f"Port {port} of {host} cannot be had ({error.strerror or error}): "
                "choose another with --port, or --port 0 for a free one."
            ) from error
        return int(probe.getsockname()[1])


def address(host: str, port: int) -> str:
    """Where a client on this machine finds a service that listens on ``host``."""
    reached = "127.0.0.1" if host in EVERYWHERE else host.strip("[]")
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
