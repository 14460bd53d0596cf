"""Commands: taken once and in order, given back when a worker is gone, forgotten when they ended long ago."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from models import commands, workers
from models.commands import MOST_TAKES, Command, CommandState, Kind
from models.database import Database
from tests.models.desk import WORKER, Desk
from tests.models.test_plans import plans
from tests.rows import LLM, TENANT, at, new_worker

OTHER = "worker_2"


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """A desk with two workers that live."""
    with desk.database.write() as session:
        session.add_all([new_worker(id=WORKER, llm=LLM), new_worker(id=OTHER, llm=LLM)])
    return desk


def issue(desk: Desk, worker_id: str | None = None, **fields: Any) -> str:
    """A command, its id."""
    known = {"tenant_id": TENANT, "llm": LLM, "kind": Kind.SAVE, "args": {"owner": f"{TENANT}/ada"}}
    return desk.do(
        "issue", lambda s: commands.issue(s, **{**known, **fields}, now=desk.now, worker_id=worker_id).id
    )


def take(desk: Desk, worker_id: str = WORKER, llm: str = LLM, limit: int = 16) -> list[str]:
    """What a worker gets, by id."""
    taken = desk.do("take", lambda s: commands.take(s, worker_id, llm, desk.now, limit))
    return [command.id for command in taken]


def end(desk: Desk, worker_id: str = WORKER) -> None:
    """Let a worker be gone."""
    desk.do("end", lambda s: workers.end(s, worker_id, desk.now))


def one(desk: Desk, command_id: str) -> Command:
    """A command as it stands."""
    (found,) = desk.all(Command, id=command_id)
    return found


def test_commands_are_taken_once_and_in_order(desk: Desk) -> None:
    """The first are taken first, as many as are asked for, and nobody takes them a second time."""
    ids = [issue(desk) for _ in range(5)]
    desk.wait(2)
    assert take(desk, limit=2) == ids[:2]
    assert take(desk, OTHER) == ids[2:]
    assert take(desk) == []
    first = one(desk, ids[0])
    assert (first.state, first.taken_by, first.taken_at, first.takes) == ("running", WORKER, at(2), 1)
    assert (first.created_at, first.ended_at, first.agent) == (at(0), None, "ada")


def test_a_command_goes_to_whom_it_is_for(desk: Desk) -> None:
    """One that is addressed waits for its worker, one that is not for any; another LLM's for its own."""
    mine, anyones = issue(desk, WORKER), issue(desk)
    theirs = issue(desk, OTHER, llm="other")
    with desk.database.read() as session:
        assert commands.any_waiting(session, OTHER, "other")
        assert not commands.any_waiting(session, WORKER, "other")
    assert take(desk, OTHER) == [anyones]
    with desk.database.read() as session:
        assert not commands.any_waiting(session, OTHER, LLM)
        assert commands.any_waiting(session, WORKER, LLM)
    assert (take(desk, WORKER), take(desk, OTHER, "other")) == ([mine], [theirs])


def test_commands_about_llms_are_for_who_can_load_them(desk: Desk) -> None:
    """Whoever has loaded the LLM does not take them; the first that waits is found, and taken by one."""
    first, second = issue(desk, kind=Kind.LOAD, args={}), issue(desk, kind=Kind.UNLOAD, args={}, llm="other")
    issue(desk, kind=Kind.LOAD, args={}, llm="elsewhere")
    with desk.database.read() as session:
        assert not commands.any_waiting(session, WORKER, LLM)
        found = [commands.about_llms(session, llms) for llms in ([LLM, "other"], ["other"], ["nobody"])]
    assert [command and command.id for command in found] == [first, second, None]
    assert take(desk) == []
    with desk.database.write() as session:
        assert commands.take_one(session, first, WORKER, desk.now)
        assert not commands.take_one(session, first, OTHER, desk.now)
    command = one(desk, first)
    assert (command.state, command.taken_by, command.takes, command.agent) == ("running", WORKER, 1, None)
    end(desk)
    assert one(desk, first).state == "waiting"


def test_what_waits_for_anybody_asks_for_an_llm(desk: Desk) -> None:
    """Commands on caches that no living worker is named for; not what is addressed, taken, or about LLMs."""
    for llm, worker_id in (("b", None), ("b", None), ("c", None), ("d", OTHER), (LLM, None)):
        issue(desk, worker_id, llm=llm)
    issue(desk, llm="e", kind=Kind.LOAD, args={})
    take(desk)
    with desk.database.read() as session:
        assert commands.wanted(session, [LLM, "b", "d", "e"]) == ["b"]


def test_a_worker_says_how_a_command_ended(desk: Desk) -> None:
    """A result or a reason is kept with the time; of what was asked, the conversation is not."""
    done = issue(desk, args={"owner": "default/a/b", "salt": "", "messages": [{"role": "user"}]})
    failed = issue(desk)
    take(desk)
    desk.wait(3)
    with desk.database.write() as session:
        assert commands.finish(session, done, WORKER, {"tokens": 7}, desk.now)
        assert commands.fail(session, failed, WORKER, "the disk is full", desk.now)
    found = one(desk, done)
    assert (found.state, found.result, found.error, found.ended_at) == ("done", {"tokens": 7}, None, at(3))
    assert (found.args, found.agent) == ({"owner": "default/a/b", "salt": ""}, "a/b")
    found = one(desk, failed)
    assert (found.state, found.result, found.error) == ("failed", None, "the disk is full")


def test_only_who_holds_a_command_ends_it(desk: Desk) -> None:
    """Neither another, nor who ended it before, nor who was declared lost meanwhile."""
    command_id = issue(desk)
    with desk.database.write() as session:
        assert not commands.finish(session, command_id, WORKER, {}, desk.now)
    take(desk)
    end(desk)
    take(desk, OTHER)
    with desk.database.write() as session:
        assert not commands.finish(session, command_id, WORKER, {"late": 1}, desk.now)
        assert not commands.fail(session, command_id, WORKER, "late", desk.now)
        assert commands.finish(session, command_id, OTHER, {"mine": 1}, desk.now)
        assert not commands.fail(session, command_id, OTHER, "again", desk.now)
    found = one(desk, command_id)
    assert (found.state, found.result, found.error) == ("done", {"mine": 1}, None)


def test_what_a_worker_leaves_is_for_others(desk: Desk) -> None:
    """What it had taken waits again, in its old place; what waited for it alone may be taken by any."""
    ids = [issue(desk), issue(desk, WORKER), issue(desk, WORKER)]
    behind, theirs = issue(desk), issue(desk, OTHER)
    assert take(desk, limit=2) == ids[:2]
    end(desk)
    found = one(desk, ids[0])
    assert (found.state, found.taken_by, found.taken_at) == (CommandState.WAITING, None, None)
    assert one(desk, theirs).worker_id == OTHER
    assert take(desk, OTHER) == [*ids, behind, theirs]


def test_a_command_that_kills_its_workers_fails(desk: Desk) -> None:
    """After so many workers that were lost with it, it is tried no more, and says so."""
    command_id = issue(desk, args={"owner": "default/ada", "messages": []})
    for number in range(MOST_TAKES):
        with desk.database.write() as session:
            session.add(new_worker(id=f"victim_{number}"))
        assert take(desk, f"victim_{number}") == [command_id]
        end(desk, f"victim_{number}")
    found = one(desk, command_id)
    assert (found.state, found.ended_at, found.taken_by) == ("failed", desk.now, "victim_2")
    assert (found.error, found.args) == (
        "each of the 3 workers that took it was lost",
        {"owner": "default/ada"},
    )
    assert take(desk) == []


def test_an_end_of_long_ago_gives_nothing_back(desk: Desk) -> None:
    """A worker that is gone already has nothing, whatever is said of it again; others keep what they took."""
    issue(desk)
    take(desk, OTHER)
    end(desk)
    end(desk)
    assert [command.taken_by for command in desk.all(Command)] == [OTHER]


def test_commands_are_found_by_their_tenant_alone(desk: Desk) -> None:
    """A list goes back from the newest; another tenant's commands are neither found nor counted."""
    ids = [issue(desk) for _ in range(3)]
    theirs = issue(desk, tenant_id="b")
    take(desk, limit=1)
    with desk.database.write() as session:
        commands.finish(session, ids[0], WORKER, {}, desk.now)
        found = commands.find(session, TENANT, ids[1])
        assert found is not None
        assert found.id == ids[1]
        assert commands.find(session, TENANT, theirs) is None
        listed = [command.id for command in commands.listed(session, TENANT, None, 2)]
        rest = [command.id for command in commands.listed(session, TENANT, listed[-1], 9)]
        assert (listed, rest) == ([ids[2], ids[1]], [ids[0]])
        assert (commands.waiting(session, TENANT), commands.waiting(session, "b")) == (2, 1)
        states = commands.over(session, [ids[0], theirs, "cmd_none"])
    assert states == {ids[0]: True, theirs: False}


def test_what_ended_long_ago_is_forgotten(desk: Desk) -> None:
    """A few at a time; what waits or runs stays, however old."""
    ids = [issue(desk) for _ in range(5)]
    take(desk, limit=4)
    with desk.database.write() as session:
        for command_id, when in zip(ids, (1, 2, 9), strict=False):
            commands.finish(session, command_id, WORKER, {}, at(when))
        assert [commands.prune(session, at(5), 1) for _ in range(3)] == [1, 1, 0]
    assert sorted(command.id for command in desk.all(Command)) == ids[2:]


def test_workers_that_look_at_once_share_what_waits(postgres_database: Database) -> None:
    """On PostgreSQL a command that another is about to take is passed by, not waited for."""
    desk = Desk(postgres_database)
    with postgres_database.write() as session:
        session.add_all([new_worker(id=WORKER), new_worker(id=OTHER)])
    first, second = issue(desk), issue(desk)
    with ThreadPoolExecutor(1) as pool, postgres_database.write() as session:
        assert [command.id for command in commands.take(session, WORKER, LLM, at(0), 1)] == [first]
        assert pool.submit(take, desk, OTHER).result(10) == [second]


def test_no_worker_is_declared_lost_between_its_look_and_its_command(postgres_database: Database) -> None:
    """On PostgreSQL whoever ends a worker waits for who gives it a command, and then passes that on."""
    desk = Desk(postgres_database)
    with postgres_database.write() as session:
        session.add_all([new_worker(id=WORKER, llm=LLM), new_worker(id=OTHER, llm=LLM)])
    with ThreadPoolExecutor(1) as pool:
        with postgres_database.write() as session:
            assert (LLM, WORKER) in workers.posts(session, [LLM])
            gone = pool.submit(end, desk)
            with pytest.raises(TimeoutError):
                gone.result(0.2)
            commands.issue(session, TENANT, LLM, Kind.FORGET, {}, at(0), WORKER)
        gone.result(10)
    assert len(take(desk, OTHER)) == 1


def test_a_look_reads_only_what_waits(sqlite_database: Database) -> None:
    """However many commands have ended, a worker's look asks an index of those that wait."""
    desk = Desk(sqlite_database)
    with plans(sqlite_database) as steps, desk.database.read() as session:
        commands.any_waiting(session, WORKER, LLM)
    assert steps == ["SEARCH commands USING INDEX ix_commands_waiting (llm=?)"]
    with plans(sqlite_database) as steps, desk.database.write() as session:
        commands.take(session, WORKER, LLM, at(0))
        commands.give_back(session, WORKER, at(0))
        commands.waiting(session, TENANT)
        commands.prune(session, at(0))
    assert steps
    assert not [step for step in steps if step.startswith("SCAN") and "INDEX" not in step]
