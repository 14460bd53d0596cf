"""Which LLMs of a process are loaded, and how one takes another's place.

Each place for a loaded LLM is held by a worker: a row, a heartbeat, and one LLM that it has loaded or
not. When another LLM is to come, its worker registers first, so that the service never looks deserted;
then the old one leaves (running jobs end or go back with their tokens, agents' blocks go to the disk,
memory is given back); then the new one loads. When that fails, the old LLM is loaded again.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from config.settings import Settings
from models import claims, commands, workers
from models.base import utcnow
from models.commands import Command, Kind
from models.database import Database, Unavailable
from workers.engine import EngineDead
from workers.identity import Identity
from workers.outage import outlast
from workers.turns import Seat, Turns

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How often it is asked whether another LLM is to be loaded."""

LEAVE_SECONDS = 60.0
"""For the last step of an LLM that leaves, and for agents' blocks on their way to the disk."""


class Place(Protocol):
    """A worker that holds a place: :class:`workers.inference.Inference`."""

    llm: str
    identity: Identity
    is_broken: bool

    @property
    def is_loaded(self) -> bool:
        """Whether its LLM has been loaded."""

    @property
    def is_fresh(self) -> bool:
        """Whether its LLM could still be loaded."""

    @property
    def is_running(self) -> bool:
        """Whether its engine's thread has not ended."""

    def come(self, is_stopping: Callable[[], bool]) -> bool:
        """Register, and begin to beat."""

    def load(self, is_stopping: Callable[[], bool]) -> bool:
        """Load the LLM and begin to work; raises EngineDead."""

    def is_at_work(self) -> bool:
        """Whether it has anything to do."""

    def stop(self, grace_seconds: float, step_seconds: float | None = None) -> bool:
        """Give back what does not end in time, and leave."""


class Stop(Protocol):
    """How the process is asked to stop."""

    @property
    def is_set(self) -> bool:
        """Whether it is."""

    def set(self) -> None:
        """Ask for it."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is asked for; True when it is."""


Make = Callable[[str, Callable[[], None], Callable[[], Mapping[str, str | None]]], Place]
"""Makes the worker for an alias; it is told what to call when it breaks, and what the process can load."""


class Registry:
    """Holds the places of a process. For one thread, but for :meth:`die` and :meth:`told`."""

    def __init__(self, settings: Settings, database: Database, make: Make, stop: Stop) -> None:
        self._settings = settings
        self._database = database
        self._make = make
        self._stop = stop
        self._aliases = settings.served_llms
        self._turns = Turns(settings.worker)
        self._places: list[Place] = []
        self._troubles: dict[str, str] = {}
        self._has_loaded = False
        self.is_broken = False

    def run(self) -> None:
        """Load what there are places for, the first aliases first, and let LLMs take turns until the stop."""
        self._open()
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except Unavailable as error:
                log.warning("LLMs take turns when the database answers: %s", error)

    def stop(self) -> bool:
        """Stop all places at once; True if all that they held is ended or given back."""
        grace = self._settings.worker.grace_seconds
        with ThreadPoolExecutor(max(1, len(self._places))) as pool:
            left = [pool.submit(_leave, place, grace) for place in self._places]
        return all(each.result() for each in left)

    @property
    def is_running(self) -> bool:
        """Whether an engine's thread has not ended: the process can only be ended as a whole."""
        return any(place.is_running for place in self._places)

    def die(self) -> None:
        """Let the process end; a part of it broke."""
        self.is_broken = True
        self._stop.set()

    def told(self) -> Mapping[str, str | None]:
        """What this process can load, as in :class:`models.workers.Worker`."""
        return {alias: self._troubles.get(alias) for alias in self._aliases} if self._has_loaded else {}

    def look(self) -> None:
        """Obey a command, or make the next exchange if one is due.

        Raises:
            models.database.Unavailable: the database does not answer.
        """
        with self._database.read() as session:
            command = commands.about_llms(session, self._aliases)
            wanted = {*claims.wanted(session, self._aliases), *commands.wanted(session, self._aliases)}
            mine = {place.identity.worker_id for place in self._places}
            others = [worker.llm for worker in workers.alive(session) if worker.id not in mine]
        elsewhere = {llm for llm in others if llm is not None}
        if command is not None and self._obey(command, wanted, elsewhere):
            return
        move = self._turns.next(self._seats(wanted), wanted, elsewhere)
        if move is not None:
            self._put(move.place, move.llm)

    def _open(self) -> None:
        for alias in self._aliases[: self._settings.worker.loaded]:
            place = self._make(alias, self.die, self.told)
            self._places.append(place)
            if not place.come(self._is_stopping):
                return
        for number in range(len(self._places)):
            for alias in self._aliases:
                if not self._places[number].is_loaded and alias not in self._loaded():
                    self._put(number, alias)

    def _is_stopping(self) -> bool:
        return self._stop.is_set

    def _loaded(self) -> dict[str, int]:
        """The LLMs that are loaded, and in which places."""
        return {place.llm: number for number, place in enumerate(self._places) if place.is_loaded}

    def _seats(self, wanted: Collection[str]) -> list[Seat]:
        return [
            Seat(place.llm, place.is_loaded, place.is_at_work() or place.llm in wanted)
            for place in self._places
        ]

    def _obey(self, command: Command, wanted: Collection[str], elsewhere: Collection[str]) -> bool:
        """Do what somebody has asked for by name; False where that is for another process to do."""
        place = self._loaded().get(command.llm)
        if command.kind == Kind.LOAD and place is None:
            self._put(self._turns.at_once(self._seats(wanted)), command.llm, command)
        elif command.kind == Kind.UNLOAD and place is not None:
            self._put(place, None, command)
        elif command.kind == Kind.UNLOAD and command.llm in elsewhere:
            return False
        elif self._take(command, self._places[place or 0]):
            self._answer(command, self._places[place or 0])
        return True

    def _put(self, number: int, llm: str | None, command: Command | None = None) -> None:
        """Have an LLM loaded in a place, or (None) what is there unloaded; if that fails, as before."""
        before = self._places[number]
        previous = before.llm if before.is_loaded else None
        worker = self._succeed(number, llm or before.llm, command)
        del before  # and all that it still holds
        if worker is None:
            return
        trouble = None if llm is None else self._load(worker, on_demand=command is not None)
        if self._stop.is_set:
            return
        if command is not None:
            self._answer(command, worker, trouble)
        if trouble is not None:
            del worker  # and all that it has of what it could not load
            can_return = previous is not None and previous != llm and self._turns.may_try(previous)
            self._put(number, previous if can_return else None)

    def _succeed(self, number: int, llm: str, command: Command | None) -> Place | None:
        """Let the worker of an LLM take a place; None if it is not to load anything now."""
        before = self._places[number]
        worker = before if before.is_fresh and before.llm == llm else self._make(llm, self.die, self.told)
        comes = worker is before or worker.come(self._is_stopping)
        if not comes or (command is not None and not self._take(command, worker)):
            if worker is not before:
                worker.stop(0)
            return None
        if worker is not before:
            self._places[number] = worker
            log.info("%s leaves its place to %s", before.llm, llm)
            left = before.stop(self._settings.worker.swap_grace_seconds, LEAVE_SECONDS)
            if not left or before.is_running:
                log.critical("%s cannot be unloaded; this process ends", before.llm)
                self.die()
        return None if self._stop.is_set else worker

    def _load(self, worker: Place, *, on_demand: bool) -> str | None:
        """Load a worker's LLM; returns why it cannot be."""
        gc.collect()  # what could not be loaded before hangs in a circle: error, traceback, frames
        trouble = None
        try:
            if not worker.load(self._is_stopping):
                return None
        except EngineDead as error:
            trouble = f"{type(error.__cause__).__name__}: {error.__cause__}"
            log.error("%s cannot be loaded: %s", worker.llm, trouble)
        self._note(worker.llm, trouble, on_demand=on_demand)
        return trouble

    def _note(self, llm: str, trouble: str | None, *, on_demand: bool) -> None:
        """Remember, and tell, how loading went; with nothing left to load the process is of no use."""
        if trouble is None:
            self._has_loaded = True
            self._troubles.pop(llm, None)
            self._turns.came(llm, on_demand=on_demand)
        else:
            self._troubles[llm] = trouble
            self._turns.failed(llm)
            if not self._loaded() and not any(map(self._turns.may_try, self._aliases)):
                self.die()
        outlast(self._tell, self._is_stopping)

    def _tell(self) -> None:
        with self._database.write() as session:
            workers.tell(session, [place.identity.worker_id for place in self._places], self.told())

    def _take(self, command: Command, worker: Place) -> bool:
        """Take a command in a worker's name; False if another was quicker, or the database is away."""
        worker_id = worker.identity.worker_id
        try:
            with self._database.write() as session:
                stands = workers.stands(session, worker_id)
                return stands and commands.take_one(session, command.id, worker_id, utcnow())
        except Unavailable as error:
            log.warning("a command waits for the database: %s", error)
            return False

    def _answer(self, command: Command, worker: Place, trouble: str | None = None) -> None:
        """Write down how a command has ended."""
        outlast(partial(self._end, command, worker.identity.worker_id, trouble), self._is_stopping)

    def _end(self, command: Command, worker_id: str, trouble: str | None) -> None:
        with self._database.write() as session:
            if trouble is None:
                result = {"loaded": command.kind == Kind.LOAD}
                commands.finish(session, command.id, worker_id, result, utcnow())
            else:
                commands.fail(session, command.id, worker_id, trouble, utcnow())


def _leave(place: Place, grace_seconds: float) -> bool:
    return place.stop(0 if place.is_broken else grace_seconds)
