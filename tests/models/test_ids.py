"""Identifiers: their shape, and that they rise."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from models import ids


def test_ids_are_version_7_uuids() -> None:
    """Version and variant bits are set, and the first 48 bits are the time in milliseconds."""
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(ids.uuid7())
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after + 1


def test_ids_rise() -> None:
    """Each id sorts behind the one made before it, however quickly they come."""
    made = [ids.new_id("job") for _ in range(5000)]
    assert made == sorted(set(made))


def test_ids_are_unique_across_threads() -> None:
    """Threads never make the same id, and each thread's own rise."""

    def many(_: int) -> list[str]:
        return [ids.uuid7() for _ in range(2000)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(many, range(8)))
    assert all(made == sorted(made) for made in found)
    assert len({each for made in found for each in made}) == 16_000


def test_a_clock_that_goes_back_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the wall clock is set back ids go on rising."""
    first = ids.uuid7()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    assert first < ids.uuid7() < ids.uuid7()


ZEROS = "0" * 32


@pytest.mark.parametrize(
    "text",
    ["", "job_", "job_" + ZEROS[1:], f"job_{ZEROS}0", "job_" + "G" * 32, f"Job_{ZEROS}", f"job_{ZEROS}\n"],
)
def test_other_shapes_are_no_ids(text: str) -> None:
    """What is not prefix, underscore and 32 hex digits is not taken for an id."""
    assert not ids.is_id("job", text)


def test_an_id_is_known_by_its_prefix() -> None:
    """An id has the shape of its own prefix only."""
    made = ids.new_id("job")
    assert ids.is_id("job", made)
    assert not ids.is_id("bulk", made)


def test_a_moment_divides_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made before a moment sorts before ``first`` of it, what was made then or later behind."""
    monkeypatch.setattr(ids, "_last", 0)
    moment = datetime(2024, 5, 6, 7, 8, 9, 250_000, tzinfo=UTC)
    at = int(moment.timestamp() * 1000) * 1_000_000
    monkeypatch.setattr(time, "time_ns", lambda: at - 1_000_000)
    before = ids.new_id("job")
    monkeypatch.setattr(time, "time_ns", lambda: at)
    assert before < ids.first("job", moment) < ids.new_id("job")
