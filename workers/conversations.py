"""What a worker holds of agents' conversations: told to the database; saved, warmed, forgotten on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from config.settings import Settings
from models import caches, commands, conversations
from models.base import utcnow
from models.caches import Where
from models.database import Database
from models.ids import new_id
from models.requests import Message, Sampling
from models.states import Priority
from workers.cache.disk import DiskTier
from workers.engine import Admission, EngineThread, Finished, LlmInfo
from workers.engine.answers import pass_on
from workers.engine.reuse import Holding
from workers.identity import Identity

T = TypeVar("T")

FOLDER = "blocks"
"""Where in the data directory the blocks are that outlive the process."""


def make_disk(settings: Settings, alias: str, info: LlmInfo) -> DiskTier | None:
    """The disk tier of an LLM, started; None where the settings want none.

    Each alias has a folder of its own, for only one process may write to one.
    """
    if not settings.engine.disk_bytes or not settings.engine.pool_bytes:
        return None
    disk = DiskTier(
        settings.data_dir / FOLDER / quote(alias, safe=""),
        info.blocks_fingerprint,
        settings.engine.disk_bytes,
        can_be_cut=info.spec.can_be_cut,
    )
    disk.start()
    return disk


class Conversations:
    """Does what commands ask, and knows what has changed since the database was told last."""

    def __init__(self, database: Database, engine: EngineThread, identity: Identity, llm: str) -> None:
        self._database = database
        self._engine = engine
        self._identity = identity
        self._llm = llm

    def tell(self) -> None:
        """Store what agents have cached here, of those for whom that has changed.

        Raises :class:`models.database.Unavailable`; what was not stored then is told with the next change.
        """
        changed = [self._row(holding) for holding in self._engine.holdings()]
        if changed:
            with self._database.write() as session:
                caches.note_held(session, changed, utcnow())

    def execute(self, kind: str, args: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """Begin what a command asks; raises ValueError for a kind that is not known here."""
        owner = str(args["owner"])
        match kind:
            case commands.Kind.SAVE:
                return _then(self._engine.save(owner), lambda tokens: {"tokens": tokens})
            case commands.Kind.FORGET:
                return _then(self._engine.forget(owner), lambda tokens: {"tokens": tokens})
            case commands.Kind.WARM:
                return _then(self._engine.read(self._beginning(owner, args)), _warmed)
        raise ValueError(f"this version knows no command {kind}")

    def _beginning(self, owner: str, args: Mapping[str, Any]) -> Admission:
        """What is to be read ahead: the messages given, or all that the agent's last job left behind."""
        given = args.get(commands.MESSAGES)
        if given:
            messages = tuple(Message.model_validate(message) for message in given)
        else:
            with self._database.read() as session:
                messages = conversations.latest(session, *_named(owner))
        if not messages:
            raise ValueError("the agent has no conversation yet: say with which messages it begins")
        tokens = self._engine.encode(messages)
        return Admission(
            new_id("warm"), 0, tokens, Sampling(max_tokens=1), priority=Priority.BACKGROUND,
            owner=owner, salt=str(args.get("salt", "")),
            boundaries=self._engine.boundaries(messages, tokens),
        )  # fmt: skip

    def _row(self, holding: Holding) -> caches.Holding:
        tenant_id, name = _named(holding.owner)
        where = Where.MEMORY if holding.in_memory else Where.DISK if holding.on_disk else Where.NONE
        tokens = holding.in_memory or holding.on_disk
        return caches.Holding(tenant_id, name, tokens, where, self._llm, self._identity.worker_id)


def _named(owner: str) -> tuple[str, str]:
    """Tenant and agent of what :func:`models.agents.owner` makes of them."""
    tenant_id, _, name = owner.partition("/")
    return unquote(tenant_id), name


def _warmed(done: Finished) -> dict[str, Any]:
    return {"tokens": done.prompt_tokens, "cached_tokens": done.cached_tokens}


def _then(first: Future[T], make: Callable[[T], dict[str, Any]]) -> Future[dict[str, Any]]:
    """A future that ends with ``first``, and with what is made of its result."""
    second: Future[dict[str, Any]] = Future()
    pass_on(first, second, make)
    return second
