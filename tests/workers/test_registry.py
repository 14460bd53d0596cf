"""Which LLMs a process has loaded: exchanges, failures, the start and the stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from config.settings import Settings
from models.database import Database, Unavailable
from models.tenants import Mode
from models.workers import Standing, Worker
from tests.workers.places import House, Pretender, house_of
from workers import outage


@pytest.fixture
def house(settings: Settings, sqlite_database: Database) -> House:
    """One place, in which ``a`` is loaded."""
    made = house_of(settings, sqlite_database)
    assert made.open() == ["load a"]
    return made


READY = Standing(can_load=True)


def test_the_first_are_loaded_and_the_rest_is_told_of(settings: Settings, sqlite_database: Database) -> None:
    """As many as there are places for; nothing is told to be loadable before anything was loaded."""
    house = house_of(settings, sqlite_database, loaded=2)
    assert house.open() == ["load a", "load b"]
    loaded = Standing(is_loaded=True, can_load=True)
    assert house.standings() == {"a": loaded, "b": loaded, "c": READY}
    assert len(house.alive()) == 2


def test_jobs_of_another_bring_it_in(house: House) -> None:
    """Its worker is there before the old one leaves, and the old LLM stays ready without being loaded."""
    house.waits("b")
    assert house.look() == ["stop a within 2 s", "load b"]
    assert house.standings() == {
        "a": READY, "b": Standing(is_loaded=True, can_load=True), "c": READY,
    }  # fmt: skip
    assert house.alive() == ["b"]
    assert house.look() == []


def test_an_exchange_waits_for_jobs_at_work(settings: Settings, sqlite_database: Database) -> None:
    """What is loaded and busy stays for its time."""
    house = house_of(settings, sqlite_database, swap_wait_seconds=3600)
    house.open()
    (place,) = house.registry._places
    assert isinstance(place, Pretender)
    house.waits("b")
    place.working = True
    assert house.look() == []
    place.working = False
    house.waits("a")
    assert house.look() == []


def test_paused_queues_bring_nobody_in(house: House) -> None:
    """Jobs that cannot be claimed are no reason to load anything."""
    house.waits("b")
    house.desk.steer(Mode.PAUSED, "b")
    assert house.look() == []


def test_the_service_never_looks_deserted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a worker leaves or loads, another row says that the process can load everything."""
    seen: list[tuple[int, set[str]]] = []
    for name in ("stop", "load"):
        act = getattr(Pretender, name)

        def noted(self: Pretender, *values: float, act: Callable[..., bool] = act) -> bool:
            done: bool = act(self, *values)
            ready = {llm for llm, standing in house.standings().items() if standing.is_ready}
            seen.append((len(house.alive()), ready))
            return done

        monkeypatch.setattr(Pretender, name, noted)
    house.waits("b")
    house.look()
    assert seen == [(1, {"a", "b", "c"})] * 2


def test_what_cannot_be_loaded_gives_its_place_back(house: House) -> None:
    """The LLM before is loaded again; the other is told to be in trouble, and not tried at once again."""
    house.broken = {"b"}
    house.waits("b")
    assert house.look() == ["stop a within 2 s", "load b", "stop b within 2 s", "load a"]
    assert house.standings()["b"] == Standing(trouble="ValueError: no memory")
    assert house.standings()["a"] == Standing(is_loaded=True, can_load=True)
    assert house.look() == []
    assert not house.stop.is_set


def test_what_can_be_loaded_again_has_no_trouble_any_more(
    settings: Settings, sqlite_database: Database
) -> None:
    """After the pause it is tried anew, and ready as soon as that went well."""
    house = house_of(settings, sqlite_database, retry_load_seconds=0.001)
    house.open()
    house.broken = {"b"}
    house.waits("b")
    house.look()
    house.broken = set()
    assert house.look() == ["stop a within 2 s", "load b"]
    assert house.standings()["b"] == Standing(is_loaded=True, can_load=True)


def test_a_start_passes_by_what_cannot_be_loaded(settings: Settings, sqlite_database: Database) -> None:
    """The next LLM is loaded in its place."""
    house = house_of(settings, sqlite_database)
    house.broken = {"a"}
    assert house.open() == ["load a", "stop a within 2 s", "stop a within 2 s", "load b"]
    assert house.standings() == {
        "a": Standing(trouble="ValueError: no memory"),
        "b": Standing(is_loaded=True, can_load=True),
        "c": READY,
    }


def test_a_process_that_can_load_nothing_ends(settings: Settings, sqlite_database: Database) -> None:
    """Its supervisor is to start it anew, and to give up in the end."""
    house = house_of(settings, sqlite_database, llms=("a",))
    house.broken = {"a"}
    house.open()
    assert house.registry.is_broken
    assert house.stop.is_set
    assert house.standings() == {}


def test_an_llm_that_cannot_be_unloaded_ends_the_process(house: House) -> None:
    """Nothing is loaded beside one that would not go."""
    house.leaves_well = False
    house.waits("b")
    assert house.look() == ["stop a within 2 s"]
    assert house.registry.is_broken


def test_an_idle_llm_sleeps_and_is_ready(settings: Settings, sqlite_database: Database) -> None:
    """Unloaded, it is ready all the same, and its next job loads it."""
    house = house_of(settings, sqlite_database, llms=("a",), unload_seconds=0.001)
    house.open()
    assert house.look() == ["stop a within 2 s"]
    assert (house.alive(), house.standings()) == ([None], {"a": READY})
    assert house.look() == []
    house.waits("a")
    assert house.look() == ["load a"]


def test_a_stop_is_for_all_places_at_once(settings: Settings, sqlite_database: Database) -> None:
    """Each has the whole grace time, but for one that broke."""
    house = house_of(settings, sqlite_database, loaded=2, grace_seconds=7)
    house.open()
    together = threading.Barrier(2, timeout=10)
    stop = Pretender.stop

    def meet(self: Pretender, *seconds: float) -> bool:
        together.wait()
        return stop(self, *seconds)

    first, second = house.registry._places
    second.is_broken = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pretender, "stop", meet)
        assert house.registry.stop()
    assert sorted(house.news()) == ["stop a within 7 s", "stop b within 0 s"]
    assert first.llm == "a"


def test_a_database_that_is_away_is_told_and_borne(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next look is made in its time."""
    waits = iter([False, True])
    monkeypatch.setattr(house.stop, "wait", lambda _seconds: next(waits))

    def refuse(_self: Database) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(house.registry, "_open", lambda: None)
    monkeypatch.setattr(Database, "read", refuse)
    house.registry.run()
    assert "LLMs take turns when the database answers: away" in caplog.text


def test_a_stop_before_the_database_answers(
    settings: Settings, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has not come in loads nothing."""
    monkeypatch.setattr(outage, "PAUSE_SECONDS", 0.001)
    house = house_of(settings, sqlite_database, loaded=2)
    monkeypatch.setattr(Pretender, "come", lambda *_: False)
    assert house.open() == []
    assert house.desk.all(Worker) == []
