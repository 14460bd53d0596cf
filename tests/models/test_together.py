"""Acts that share a transaction: all are done, and one that fails concerns nobody else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from models.base import utcnow
from models.database import Database, Unavailable
from models.tenants import Tenant
from models.together import Together


def insert(name: str) -> Callable[[Session], str]:
    """An act that makes a tenant."""

    def act(session: Session) -> str:
        session.add(Tenant(id=name, name=name, weight=1, created_at=utcnow()))
        session.flush()
        return name

    return act


def fail(_session: Session) -> str:
    """An act that does not succeed."""
    raise LookupError("no")


def names(database: Database) -> set[str]:
    """The tenants there are."""
    with database.read() as session:
        return set(session.scalars(select(Tenant.id)))


class Crowd:
    """Threads that meet in front of a lock which the test holds until all are there."""

    def __init__(self, together: Together) -> None:
        self.together = together
        self.outcomes: dict[int, Any] = {}

    def write(self, *acts: Callable[[Session], str]) -> list[Any]:
        """Run acts so that they wait together; returns what each returned or raised, in order."""
        threads = [threading.Thread(target=self._run, args=item) for item in enumerate(acts)]
        with self.together._database.write():
            for thread in threads:
                thread.start()
            while len(self.together._waiting) < len(acts):
                pass
        for thread in threads:
            thread.join()
        return [self.outcomes[number] for number in range(len(acts))]

    def _run(self, number: int, act: Callable[[Session], str]) -> None:
        try:
            self.outcomes[number] = self.together.write(act)
        except Exception as error:  # noqa: BLE001  (the test looks at it)
            self.outcomes[number] = error


def test_act_is_committed_on_return(database: Database) -> None:
    """One act alone is one transaction, and its outcome is returned."""
    assert Together(database).write(insert("a")) == "a"
    assert names(database) == {"a"}


def test_failing_act_is_rolled_back(database: Database) -> None:
    """What an act raises reaches its caller, and nothing of it stays."""

    def half(session: Session) -> str:
        insert("a")(session)
        return fail(session)

    with pytest.raises(LookupError):
        Together(database).write(half)
    assert names(database) == set()


def test_those_who_meet_share_a_commit(sqlite_database: Database) -> None:
    """Ten acts that wait for SQLite's lock are one transaction, and each gets its own outcome."""
    commits: list[object] = []
    event.listen(sqlite_database.engine, "commit", commits.append)
    wanted = [f"t{number}" for number in range(10)]
    assert Crowd(Together(sqlite_database)).write(*map(insert, wanted)) == wanted
    assert names(sqlite_database) == set(wanted)
    assert len(commits) == 1


def test_one_failure_concerns_nobody_else(sqlite_database: Database) -> None:
    """When one of several fails, it alone gets the error and the others are stored."""
    first, second, third = Crowd(Together(sqlite_database)).write(insert("a"), fail, insert("b"))
    assert (first, type(second), third) == ("a", LookupError, "b")
    assert names(sqlite_database) == {"a", "b"}


def test_failed_commit_reaches_everybody(sqlite_database: Database) -> None:
    """When the disk is full nobody is told that something was stored."""

    def full(_session: Session) -> None:
        if threading.current_thread() is not threading.main_thread():  # which holds the lock meanwhile
            raise Unavailable("database or disk is full")

    crowd = Crowd(Together(sqlite_database))
    event.listen(Session, "before_commit", full)
    try:
        outcomes = crowd.write(insert("a"), insert("b"))
    finally:
        event.remove(Session, "before_commit", full)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
    assert names(sqlite_database) == set()


def test_nobody_raises_what_another_raises(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When no transaction can begin each thread gets an error of its own, of one kind and with one cause."""
    write = Database.write

    @contextmanager
    def locked(self: Database) -> Iterator[Session]:
        with write(self) as session:  # comes to pass when all are there
            if threading.current_thread() is not threading.main_thread():
                raise Unavailable("database is locked")
            yield session

    crowd = Crowd(Together(sqlite_database))
    monkeypatch.setattr(Database, "write", locked)
    outcomes = crowd.write(*map(insert, "abc"))
    assert [str(outcome) for outcome in outcomes] == ["database is locked"] * 3
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert len({id(outcome) for outcome in outcomes}) == 3
    assert len({id(outcome.__cause__) for outcome in outcomes}) == 1


def test_large_crowds_take_turns(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """More acts than one transaction takes are led by several, and none is forgotten."""
    monkeypatch.setattr("models.together.MOST", 3)
    wanted = [f"t{number}" for number in range(20)]
    assert Crowd(Together(sqlite_database)).write(*map(insert, wanted)) == wanted
    assert names(sqlite_database) == set(wanted)
