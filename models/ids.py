"""Identifiers: a prefix that says what is meant, and a UUID that sorts by time."""

from __future__ import annotations

import os
import re
import threading
import time
from datetime import datetime

_guard = threading.Lock()
_last = 0


def uuid7() -> str:
    """32 hex digits of a version 7 UUID (RFC 9562, section 5.7), rising in a process.

    The 12 bits after the millisecond count sub-millisecond steps (method 3 of
    section 6.2), so ids made one after the other sort in that order.
    """
    global _last  # noqa: PLW0603  (one clock for the process is the point)
    with _guard:
        ticks = time.time_ns() * 4096 // 1_000_000
        _last = max(ticks, _last + 1)
        ticks = _last
    high = (ticks >> 12 << 16) | 0x7000 | (ticks & 0xFFF)
    low = (int.from_bytes(os.urandom(8)) & (2**62 - 1)) | 2**63
    return f"{high:016x}{low:016x}"


def new_id(prefix: str) -> str:
    """A new identifier such as ``job_0197…`` (prefix, underscore, 32 hex digits)."""
    return f"{prefix}_{uuid7()}"


def first(prefix: str, at: datetime) -> str:
    """What sorts before all identifiers made at ``at`` or later, and behind those made before."""
    return f"{prefix}_{int(at.timestamp() * 1000):012x}"


def is_id(prefix: str, text: str) -> bool:
    """Whether ``text`` has the shape that :func:`new_id` gives for ``prefix``."""
    return re.fullmatch(prefix + r"_[0-9a-f]{32}", text) is not None
