"""Commands reach their worker, run side by side, and end in their rows; settings are followed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from models import commands, queues, workers
from models.base import utcnow
from models.books import check_integrity
from models.commands import Command, Kind
from models.database import Database, Unavailable
from tests.rows import LLM, TENANT, new_llm
from workers.commands import MOST_AT_ONCE, Commands
from workers.identity import Identity

OWNER = {"owner": f"{TENANT}/ada"}


class Hand:
    """Begins what it is told, and ends nothing by itself."""

    def __init__(self) -> None:
        self.begun: list[tuple[Kind, Mapping[str, Any]]] = []
        self.futures: list[Future[dict[str, Any]]] = []
        self.windows: list[float] = []

    def execute(self, kind: Kind, args: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """Note it; what ``args`` name as its trouble is raised."""
        if "trouble" in args:
            raise OSError(args["trouble"])
        self.begun.append((kind, args))
        self.futures.append(Future())
        return self.futures[-1]

    def set_window(self, ms: float) -> None:
        """Note it."""
        self.windows.append(ms)


@pytest.fixture
def identity(database: Database, tmp_path: Path) -> Iterator[Identity]:
    """A worker that serves ``pico``; the books balance in the end."""
    made = Identity(database, "inference", tmp_path)
    made.register()
    with database.write() as session:
        workers.publish_llm(session, new_llm())
        made.serve(session, LLM)
    yield made
    with database.write() as session:
        made.leave(session, "EUR")
    with database.read() as session:
        assert check_integrity(session) == []


@pytest.fixture
def hand() -> Hand:
    """Who does what is asked."""
    return Hand()


@pytest.fixture
def looker(database: Database, identity: Identity, hand: Hand) -> Iterator[Commands]:
    """Looks when it is told to."""
    made = Commands(database, identity, LLM, hand)
    yield made
    made.close()


def issue(database: Database, kind: str = Kind.SAVE, worker_id: str | None = None, **args: Any) -> str:
    """A command, its id."""
    with database.write() as session:
        asked = {**OWNER, **args}
        return commands.issue(session, TENANT, LLM, kind, asked, utcnow(), worker_id).id  # type: ignore[arg-type]  # also kinds of later versions


def told(database: Database) -> list[tuple[str, Any, str | None]]:
    """State, result and error of all commands, in order."""
    with database.read() as session:
        found = session.scalars(select(Command).order_by(Command.id))
        return [(command.state, command.result, command.error) for command in found]


@contextmanager
def asked(database: Database) -> Iterator[list[str]]:
    """What the database is asked meanwhile."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield statements
    event.remove(database.engine, "before_cursor_execute", note)


def test_a_command_is_begun_and_its_end_written(database: Database, looker: Commands, hand: Hand) -> None:
    """One look begins it, and the first one after its end writes what came of it."""
    issue(database, Kind.WARM, messages=[1])
    looker.look()
    assert hand.begun == [(Kind.WARM, {**OWNER, "messages": [1]})]
    looker.look()
    assert told(database) == [("running", None, None)]
    hand.futures[0].set_result({"tokens": 7})
    looker.look()
    assert told(database) == [("done", {"tokens": 7}, None)]
    looker.look()
    assert len(hand.begun) == 1


def test_commands_go_on_side_by_side(
    database: Database, looker: Commands, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long one keeps no other from its end; of too many some wait, and come when there is room."""
    ids = [issue(database) for _ in range(MOST_AT_ONCE + 2)]
    looker.look()
    assert len(hand.begun) == MOST_AT_ONCE
    with monkeypatch.context() as patched:
        patched.delattr(commands, "take")  # who has no room asks for no lock
        for _ in range(2):
            looker.look()
    hand.futures[5].set_result({})
    looker.look()
    states = [state for state, _, _ in told(database)]
    assert (states[4:7], states.count("waiting")) == (["running", "done", "running"], 1)
    for future in hand.futures:
        if not future.done():
            future.set_result({})
    for _ in range(2):
        looker.look()
    hand.futures[-1].set_result({})
    looker.look()
    assert [state for state, _, _ in told(database)] == ["done"] * len(ids)


def test_failures_say_why(database: Database, looker: Commands, hand: Hand) -> None:
    """An error at the beginning or later, one without a word, what was given up, and what nobody knows."""
    for _ in range(3):
        issue(database)
    issue(database, trouble="no such agent")
    issue(database, "agent.fly")
    looker.look()
    first, second, third = hand.futures
    first.set_exception(OSError("the disk is full"))
    second.set_exception(TimeoutError())
    third.cancel()
    looker.look()
    assert told(database) == [
        ("failed", None, "the disk is full"),
        ("failed", None, "TimeoutError"),
        ("failed", None, "the worker gave it up"),
        ("failed", None, "no such agent"),
        ("failed", None, "this worker's version does not know agent.fly: update Penstock"),
    ]


def test_only_what_is_for_this_worker_is_taken(
    database: Database, looker: Commands, hand: Hand, identity: Identity
) -> None:
    """What another was told is left to it, and so is what concerns another LLM."""
    issue(database, worker_id=identity.worker_id)
    issue(database, worker_id="worker_other")
    with database.write() as session:
        commands.issue(session, TENANT, "other", Kind.SAVE, OWNER, utcnow())
    looker.look()
    assert [state for state, _, _ in told(database)] == ["running", "waiting", "waiting"]
    hand.futures[0].set_result({})
    looker.look()


def test_the_window_is_followed(database: Database, looker: Commands, hand: Hand, identity: Identity) -> None:
    """What was set before a worker came, and each change since; nothing is said twice, or of another LLM."""

    def set_window(ms: float, llm: str = LLM) -> None:
        with database.write() as session:
            queues.set_window(session, llm, ms, TENANT, "key", utcnow())
        looker.look()

    looker.look()
    assert hand.windows == []
    for ms in (25, 0.5, 0):
        set_window(ms)
    set_window(9, "other")
    looker.look()
    assert hand.windows == [25, 0.5, 0]
    late = Commands(database, identity, LLM, newcomer := Hand())
    late.look()
    late.close()
    assert newcomer.windows == [0]


def test_an_idle_worker_reads_nothing(sqlite_database: Database, tmp_path: Path) -> None:
    """On SQLite a look asks for nothing while nobody has written; else for two indexes."""
    idle = Identity(sqlite_database, "inference", tmp_path)
    idle.register()
    looker = Commands(sqlite_database, idle, LLM, Hand())
    with asked(sqlite_database) as statements:
        looker.look()
    assert len([statement for statement in statements if statement.startswith("SELECT")]) == 2
    with asked(sqlite_database) as statements:
        looker.look()
    assert statements == []
    with sqlite_database.write() as session:
        idle.leave(session, "EUR")
    with asked(sqlite_database) as statements:
        looker.look()
    assert statements != []
    looker.close()


def test_a_look_that_failed_is_made_up_for(
    database: Database, looker: Commands, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that was away loses neither commands nor ends, though nothing changes when it is back."""
    issue(database)

    def away(*_: object) -> Any:
        raise Unavailable("away")

    for broken in ("any_waiting", "take"):
        with monkeypatch.context() as patched:
            patched.setattr(commands, broken, away)
            with pytest.raises(Unavailable):
                looker.look()
    looker.look()
    assert len(hand.begun) == 1
    hand.futures[0].set_result({"tokens": 1})
    with monkeypatch.context() as patched:
        patched.setattr(commands, "finish", away)
        with pytest.raises(Unavailable):
            looker.look()
    looker.look()
    assert told(database) == [("done", {"tokens": 1}, None)]


def test_who_was_declared_lost_takes_and_ends_nothing(
    database: Database, looker: Commands, hand: Hand, identity: Identity
) -> None:
    """What it had begun is for others, and for itself under its new name; the first word of it is late."""
    issue(database)
    looker.look()
    with database.write() as session:
        workers.end(session, identity.worker_id, utcnow())
    issue(database)
    looker.look()
    assert [state for state, _, _ in told(database)] == ["waiting", "waiting"]
    identity.register()
    hand.futures[0].set_result({"late": True})
    looker.look()
    looker.look()
    for future in hand.futures[1:]:
        future.set_result({"tokens": 2})
    looker.look()
    assert told(database) == [("done", {"tokens": 2}, None)] * 2


def test_what_has_not_ended_goes_back_with_its_worker(
    database: Database, looker: Commands, hand: Hand, identity: Identity, tmp_path: Path
) -> None:
    """A worker that leaves in good order keeps nothing; the next one does it."""
    issue(database)
    looker.look()
    with database.write() as session:
        identity.leave(session, "EUR")
    assert told(database) == [("waiting", None, None)]
    assert not hand.futures[0].done()
