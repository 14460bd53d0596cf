"""Steps find their size by what they took."""

from __future__ import annotations

import pytest

from models.database import Database, Session, Unavailable
from workers.pace import Pace


class Disk:
    """A clock that a change moves on by so much a row, and a note of the rests."""

    def __init__(self) -> None:
        self.now = 0.0
        self.a_row = 0.001
        self.rests: list[float] = []

    def pace(self, database: Database, first: int = 50, least: int = 10) -> Pace:
        """Steps that may take a tenth of a second, and so aim at 40 ms."""
        return Pace(database, 0.1, first, least, clock=lambda: self.now, rest=self.rests.append)

    def run(self, pace: Pace, rows: int | None = None) -> float:
        """One full step, or one of so many rows; what it took."""
        count = pace.size if rows is None else rows

        def change(_session: Session) -> int:
            self.now += count * self.a_row
            return count

        before = self.now
        assert pace.step(change) == count
        return self.now - before


@pytest.fixture
def disk() -> Disk:
    """A disk that needs a millisecond a row."""
    return Disk()


def test_steps_grow_up_to_the_time_that_is_aimed_at(sqlite_database: Database, disk: Disk) -> None:
    """The size doubles at most, and stays where a step takes about two fifths of what it may."""
    pace = disk.pace(sqlite_database, first=12)
    taken = [disk.run(pace) for _ in range(5)]
    assert taken == pytest.approx([0.012, 0.024, 0.04, 0.04, 0.04], rel=0.05)


def test_a_step_that_took_too_long_makes_the_next_one_small(sqlite_database: Database, disk: Disk) -> None:
    """It shrinks at once, but not below the least, and grows again when that is over."""
    pace = disk.pace(sqlite_database, first=40)
    disk.a_row = 0.01
    assert disk.run(pace) == pytest.approx(0.4)
    assert pace.size == 10
    disk.run(pace)
    assert pace.size == 10
    disk.a_row = 0.001
    disk.run(pace)
    assert pace.size == 20


def test_what_is_left_over_says_nothing_about_the_size(sqlite_database: Database, disk: Disk) -> None:
    """A last step with few rows neither raises nor lowers it."""
    pace = disk.pace(sqlite_database, first=40)
    disk.run(pace, rows=3)
    disk.run(pace, rows=0)
    assert pace.size == 40


def test_a_step_may_count_for_more_than_its_rows(sqlite_database: Database, disk: Disk) -> None:
    """Where rows are of unequal weight, it is the weight that a size stands for."""
    pace = disk.pace(sqlite_database, first=40)

    def change(_session: Session) -> int:
        disk.now += 0.08
        return 1

    assert pace.step(change, rows=40) == 1
    assert pace.size == 20


def test_others_write_in_between(sqlite_database: Database, disk: Disk) -> None:
    """After a step the lock is free for several times as long as it was held."""
    pace = disk.pace(sqlite_database, first=10)
    disk.run(pace)
    assert disk.rests == [pytest.approx(0.03)]


def test_waiting_for_the_lock_is_not_held_against_a_step(sqlite_database: Database) -> None:
    """The clock is first asked when the write lock is held, and again when it has been given back."""
    other = Database.connect(str(sqlite_database.engine.url), busy_timeout_ms=1)
    free: list[bool] = []

    def clock() -> float:
        try:
            with other.write() as session:
                session.connection()
            free.append(True)
        except Unavailable:
            free.append(False)
        return 0.0

    Pace(sqlite_database, 0.1, clock=clock).step(lambda _session: 0)
    other.close()
    assert free == [False, True]
