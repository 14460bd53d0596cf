"""Commands to load and unload LLMs, as a process obeys them or leaves them to others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from config.settings import Settings
from models import commands
from models.base import utcnow
from models.commands import CommandState, Kind
from models.database import Database, Unavailable
from tests.rows import TENANT, new_worker
from tests.workers.places import House, Pretender, house_of


@pytest.fixture
def house(settings: Settings, sqlite_database: Database) -> House:
    """One place, in which ``a`` is loaded."""
    made = house_of(settings, sqlite_database)
    assert made.open() == ["load a"]
    return made


def test_a_command_loads_at_once(settings: Settings, sqlite_database: Database) -> None:
    """However busy the loaded one is; what was asked for stays though only the other has jobs."""
    house = house_of(settings, sqlite_database, swap_wait_seconds=3600)
    house.open()
    house.waits("a")
    asked = house.ask(Kind.LOAD, "b")
    assert house.look() == ["stop a within 2 s", "load b"]
    command = house.command(asked)
    assert (command.state, command.result, command.takes) == (CommandState.DONE, {"loaded": True}, 1)
    assert house.look() == []


def test_a_command_unloads(house: House) -> None:
    """Memory is given back until the next job comes."""
    asked = house.ask(Kind.UNLOAD, "a")
    assert house.look() == ["stop a within 2 s"]
    assert (house.command(asked).state, house.command(asked).result) == (CommandState.DONE, {"loaded": False})
    assert house.alive() == [None]
    house.waits("a")
    assert house.look() == ["load a"]


@pytest.mark.parametrize(("kind", "llm"), [(Kind.LOAD, "a"), (Kind.UNLOAD, "b")])
def test_a_command_for_what_is_so_already(house: House, kind: Kind, llm: str) -> None:
    """Nothing happens, and the command is done."""
    asked = house.ask(kind, llm)
    assert house.look() == []
    assert house.command(asked).result == {"loaded": kind is Kind.LOAD}


def test_a_command_that_cannot_be_obeyed_fails(house: House) -> None:
    """It says why, and what was loaded before is loaded again."""
    house.broken = {"b"}
    asked = house.ask(Kind.LOAD, "b")
    assert house.look() == ["stop a within 2 s", "load b", "stop b within 2 s", "load a"]
    assert (house.command(asked).state, house.command(asked).error) == ("failed", "ValueError: no memory")


def test_an_unload_is_left_to_the_process_that_has_it_loaded(house: House) -> None:
    """Of several processes the one that it concerns takes it."""
    with house.database.write() as session:
        session.add(new_worker(id="other", llm="b"))
    asked = house.ask(Kind.UNLOAD, "b")
    assert house.look() == []
    assert house.command(asked).state == CommandState.WAITING


def test_a_command_that_another_took_is_not_obeyed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second leaves everything as it is."""
    monkeypatch.setattr(commands, "take_one", lambda *_: False)
    house.ask(Kind.LOAD, "b")
    assert house.look() == ["stop b within 0 s"]
    assert house.alive() == ["a"]


def test_a_command_waits_for_its_database(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be taken is not obeyed, and nothing is left behind."""

    def refuse(*_: object) -> bool:
        raise Unavailable("away")

    monkeypatch.setattr(commands, "take_one", refuse)
    house.ask(Kind.LOAD, "b")
    assert house.look() == ["stop b within 0 s"]
    assert house.alive() == ["a"]


def test_a_command_on_an_agents_cache_wakes_its_llm(house: House) -> None:
    """What only a worker with the LLM can do counts as much as a job."""
    with house.database.write() as session:
        commands.issue(session, TENANT, "b", Kind.FORGET, {"owner": "default/ada"}, utcnow())
    assert house.look() == ["stop a within 2 s", "load b"]


def test_a_stop_while_an_llm_loads_leaves_its_command_to_others(house: House) -> None:
    """It was not done, and waits again when the process is gone."""
    load = Pretender.load

    def stopped(self: Pretender, is_stopping: Callable[[], bool]) -> bool:
        house.stop.set()
        return load(self, is_stopping)

    asked = house.ask(Kind.LOAD, "b")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pretender, "load", stopped)
        house.look()
    assert house.command(asked).state == CommandState.RUNNING
    assert house.registry.stop()
    assert (house.command(asked).state, house.alive()) == (CommandState.WAITING, [])
