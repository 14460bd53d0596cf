"""A process without LLMs: a registry, and workers that only pretend to load, on a real database."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from config.settings import Llm, Settings
from models import commands, workers
from models.base import utcnow
from models.commands import Command, Kind
from models.database import Database
from models.workers import Standing
from tests.models.desk import Desk
from tests.rows import TENANT, new_job
from workers import registry
from workers.engine import EngineDead
from workers.identity import Identity
from workers.registry import Registry


class Stop:
    """A stop in the test's hands: nobody waits for it."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        """Ask for it."""
        self.is_set = True

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is asked for; the registry looks no more by itself."""
        assert timeout == registry.LOOK_SECONDS
        return True


class Pretender:
    """A worker with a row and without an engine, which writes down what is done with it."""

    def __init__(
        self,
        house: House,
        llm: str,
        on_death: Callable[[], None],
        llms: Callable[[], Mapping[str, str | None]],
    ) -> None:
        self.house = house
        self.llm = llm
        self.on_death = on_death
        self.identity = Identity(house.database, "inference", house.settings.data_dir, llms)
        self.is_loaded = self.is_broken = self.is_running = False
        self.is_fresh = True
        self.working = False

    def come(self, _is_stopping: Callable[[], bool]) -> bool:
        """Register."""
        self.identity.register()
        return True

    def load(self, is_stopping: Callable[[], bool]) -> bool:
        """Load, or fail as the house says."""
        self.is_fresh = False
        if is_stopping():
            return False
        self.house.log.append(f"load {self.llm}")
        if self.llm in self.house.broken:
            raise EngineDead("it died") from ValueError("no memory")
        self.is_loaded = True
        with self.house.database.write() as session:
            self.identity.serve(session, self.llm)
        return True

    def is_at_work(self) -> bool:
        """Whether the test lets it work."""
        return self.working

    def stop(self, grace_seconds: float, step_seconds: float | None = None) -> bool:
        """Leave; only who leaves its place to another has longer for its last step."""
        assert step_seconds in (None, registry.LEAVE_SECONDS)
        self.house.log.append(f"stop {self.llm} within {grace_seconds:g} s")
        with self.house.database.write() as session:
            self.identity.leave(session, "EUR")
        return self.house.leaves_well


class House:
    """A registry with pretenders, on a real database."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database = settings, database
        self.desk = Desk(database)
        self.log: list[str] = []
        self.broken: set[str] = set()
        self.leaves_well = True
        self.stop = Stop()
        self.registry = Registry(settings, database, lambda *made: Pretender(self, *made), self.stop)

    def open(self) -> list[str]:
        """Start, as far as a process does before it waits; returns what was done."""
        self.registry.run()
        return self.news()

    def look(self) -> list[str]:
        """Let the registry look once; returns what was done."""
        self.registry.look()
        return self.news()

    def news(self) -> list[str]:
        """What was done since the last question."""
        news, self.log = self.log, []
        return news

    def ask(self, kind: Kind, llm: str) -> str:
        """Issue a command."""
        with self.database.write() as session:
            return commands.issue(session, TENANT, llm, kind, {}, utcnow()).id

    def command(self, command_id: str) -> Command:
        """A command as it stands."""
        (command,) = self.desk.all(Command, id=command_id)
        return command

    def standings(self) -> dict[str, Standing]:
        """How it stands with each LLM."""
        with self.database.read() as session:
            return workers.standings(workers.alive(session))

    def alive(self) -> list[str | None]:
        """What the living workers have loaded."""
        with self.database.read() as session:
            return [worker.llm for worker in workers.alive(session)]

    def waits(self, *llms: str) -> None:
        """Jobs for some LLMs."""
        self.desk.submit(*(new_job(llm=llm) for llm in llms))


def house_of(settings: Settings, database: Database, **worker: object) -> House:
    """A registry of the LLMs ``a``, ``b`` and ``c``, which exchange without waiting unless told otherwise."""
    values = {"llms": ("a", "b", "c"), "swap_wait_seconds": 0, **worker}
    llms = {alias: Llm(path="fake:") for alias in ("pico", "a", "b", "c")}
    fit = {"worker": settings.worker.model_copy(update=values), "llms": llms}
    return House(settings.model_copy(update=fit), database)
