"""What routes work with: one object for the process, one for each request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from api.depth import Depth
from api.keyring import Keyring
from api.llm_book import LlmBook
from api.problems import Kind, Problem, invalid, not_found
from api.readiness import Readiness
from api.sightings import Sightings
from api.watcher import Watcher
from api.wire.problem import Fault
from config.prices import Prices
from config.settings import Settings
from models import bulks, commands, jobs
from models.bulks import Bulk
from models.commands import Command
from models.database import Database
from models.hooks import Session
from models.ids import is_id
from models.job_rows import Job
from models.keys import Caller
from models.states import Priority
from models.together import Together
from workers.broker import Broker, make_broker, make_live_log

BULKS = 2
"""Bulks that are stored at the same time; others wait without a thread."""

MOST_WAITING = 1_000
"""Commands of a tenant that may wait: where no worker comes they would pile up."""

COMMANDS_RETRY_AFTER = "10"


class Door:
    """Everything that lives as long as the application."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        broker: Broker | None = None,
        prices: Prices | None = None,
    ) -> None:
        self.settings = settings
        self.database = database
        self.together = Together(database)
        self.broker = broker or make_broker(settings, database)
        self._owns_broker = broker is None
        self.live = make_live_log(settings, database)
        self.prices = prices or Prices()
        self.keyring = Keyring(database)
        self.llms = LlmBook(settings, database)
        self.depth = Depth(database, settings.queue, self._jobs_per_second)
        self.readiness = Readiness(settings, database)
        self.sightings = Sightings(database)
        self.watcher = Watcher(self.sightings.look, settings.live.poll_ms / 1000)
        self.bulk_threads = CapacityLimiter(BULKS)
        queue = settings.queue
        self.offsets = {
            Priority.INTERACTIVE: queue.offset_interactive,
            Priority.STANDARD: queue.offset_standard,
            Priority.BACKGROUND: queue.offset_background,
        }
        self.queries: dict[tuple[str, str], dict[str, bool]] = {}
        """Query parameters by path template and method, and whether each may come more than once;
        filled with the OpenAPI document."""

    def _jobs_per_second(self) -> float:
        """How many jobs end in a second, of all LLMs that are loaded; 0 when that is not known."""
        loaded = [alias for alias in self.settings.llms if self.llms.standing(alias).is_loaded]
        return sum(self.llms.rate(alias) or 0.0 for alias in loaded)

    def close(self) -> None:
        """Let those who wait go, and close what was opened here."""
        self.watcher.close()
        self.sightings.close()
        self.live.close()
        if self._owns_broker:
            self.broker.close()


@dataclass(frozen=True, slots=True)
class Desk:
    """The door as one caller sees it: the only way from a route to rows, and only to the caller's own."""

    door: Door
    caller: Caller

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.door.settings

    @property
    def database(self) -> Database:
        """Where transactions are begun."""
        return self.door.database

    def job(self, session: Session, job_id: str, *, lock: bool = False) -> Job:
        """A job of the caller's tenant.

        Raises:
            Problem: 404.
        """
        job = jobs.find(session, self.caller.tenant_id, job_id, lock=lock) if is_id("job", job_id) else None
        if job is None:
            raise not_found("job")
        return job

    def bulk(self, session: Session, bulk_id: str) -> Bulk:
        """A bulk of the caller's tenant.

        Raises:
            Problem: 404.
        """
        bulk = bulks.find(session, self.caller.tenant_id, bulk_id) if is_id("bulk", bulk_id) else None
        if bulk is None:
            raise not_found("bulk")
        return bulk

    def command(self, session: Session, command_id: str) -> Command:
        """A command of the caller's tenant.

        Raises:
            Problem: 404.
        """
        known = is_id("cmd", command_id)
        command = commands.find(session, self.caller.tenant_id, command_id) if known else None
        if command is None:
            raise not_found("command")
        return command

    def check_room(self, session: Session) -> None:
        """Do nothing if the caller's tenant may issue one more command.

        Raises:
            Problem: 429.
        """
        if commands.waiting(session, self.caller.tenant_id) >= MOST_WAITING:
            detail = f"{MOST_WAITING} commands of yours wait for a worker: send more when some have ended"
            raise Problem(Kind.TOO_MANY_COMMANDS, detail, headers={"Retry-After": COMMANDS_RETRY_AFTER})

    def check_llm(self, alias: str) -> None:
        """Do nothing if an alias is configured.

        Raises:
            Problem: 404.
        """
        if alias not in self.settings.llms:
            near = ", ".join(self.door.llms.near(alias))
            raise Problem(Kind.NOT_FOUND, f"{alias[:80]!r} is not configured; there is: {near}")


async def _desk(request: Request) -> Desk:
    door: Door = request.app.state.door
    caller = await _authenticate(door, request.headers.get("authorization"))
    _check_query(door, request)
    return Desk(door, caller)


async def _authenticate(door: Door, header: str | None) -> Caller:
    scheme, _, presented = (header or "").partition(" ")
    presented = presented.strip()
    if scheme.lower() != "bearer" or not presented:
        raise Problem(
            Kind.UNAUTHORIZED,
            "send the header Authorization: Bearer pk_...",
            headers={"WWW-Authenticate": 'Bearer realm="penstock"'},
        )
    caller = door.keyring.recall(presented) or await run_in_threadpool(door.keyring.verify, presented)
    if caller is None:
        raise Problem(
            Kind.UNAUTHORIZED,
            "this key is not known, or was revoked",
            headers={"WWW-Authenticate": 'Bearer realm="penstock", error="invalid_token"'},
        )
    return caller


def _check_query(door: Door, request: Request) -> None:
    """Nothing that a client asks for is silently ignored, in the query either."""
    if not request.url.query:
        return
    known = door.queries.get((request.scope["route"].path_format, request.method), {})
    advice = f"known here: {', '.join(sorted(known))}" if known else "none is known here"
    faults = []
    for name in sorted(set(request.query_params)):
        if name not in known:
            faults.append(Fault(field=name[:80], message=f"is not a known query parameter ({advice})"))
        elif not known[name] and len(request.query_params.getlist(name)) > 1:
            faults.append(Fault(field=name, message="was given more than once: give one value"))
    if faults:
        raise invalid(faults)


Seated = Annotated[Desk, Depends(_desk)]
"""Asks for a valid key and hands the route its desk."""
