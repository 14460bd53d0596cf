"""Workers and the LLMs they serve, as rows that the API can read without MLX."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, String, delete, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from models import commands
from models.base import Base, UtcDateTime, upsert
from models.job_rows import Job
from models.states import State


class Worker(Base):
    """A process of ours. ``beats`` is raised for as long as it lives: liveness trusts no clock.

    ``llm`` is the alias of the LLM that an inference worker has loaded. ``llms`` are the aliases that
    its process can load, each with null, or with why it could not when it tried last; they are not told
    before the process has loaded any.
    """

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    llm: Mapped[str | None] = mapped_column(String(64))
    llms: Mapped[dict[str, str | None]] = mapped_column(JSON, default=dict, server_default="{}")
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int] = mapped_column(Integer)
    beats: Mapped[int] = mapped_column(BigInteger, default=0)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    figures: Mapped[dict[str, Any]] = mapped_column(JSON)


class Llm(Base):
    """What a worker says of an LLM that it has loaded under an alias; it stays true when it is unloaded."""

    __tablename__ = "llms"

    alias: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    context_length: Mapped[int] = mapped_column(Integer)
    vocabulary: Mapped[int] = mapped_column(Integer)
    fingerprint: Mapped[str] = mapped_column(String(64))
    tokenizer: Mapped[str] = mapped_column(String(1024))
    jobs_per_second: Mapped[float | None]
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


def beat(session: Session, worker_id: str, figures: dict[str, Any], now: datetime) -> bool:
    """Raise a worker's counter; False if its row is gone or it was declared lost."""
    raised = session.execute(
        update(Worker)
        .where(Worker.id == worker_id, Worker.ended_at.is_(None))
        .values(beats=Worker.beats + 1, seen_at=now, figures=figures)
    )
    return bool(raised.rowcount)  # type: ignore[attr-defined]  # update gives a CursorResult


def stands(session: Session, worker_id: str) -> bool:
    """Whether a worker may act in its name: it was not declared lost, nor can be before the transaction ends.

    Ask it first: whoever declares a worker lost locks its row before its jobs, too.
    """
    query = select(Worker.id).where(Worker.id == worker_id, Worker.ended_at.is_(None))
    return session.scalar(query.with_for_update(read=True)) is not None


def end(session: Session, worker_id: str, now: datetime) -> None:
    """Note that a worker has stopped or is lost: others take its commands."""
    mine = update(Worker).where(Worker.id == worker_id, Worker.ended_at.is_(None))
    session.execute(mine.values(ended_at=now))
    commands.give_back(session, worker_id, now)


def alive(session: Session) -> list[Worker]:
    """Workers that have neither stopped nor been declared lost."""
    return list(session.scalars(select(Worker).where(Worker.ended_at.is_(None))))


def serving(session: Session, llm: str) -> list[str]:
    """The ids of living workers that have loaded an LLM."""
    return list(session.scalars(select(Worker.id).where(Worker.ended_at.is_(None), Worker.llm == llm)))


def posts(session: Session, aliases: Collection[str]) -> list[tuple[str, str | None]]:
    """Whom a command for all goes to: (LLM, worker) for each living worker that has loaded one.

    Those of ``aliases`` that none has loaded come with None, for whoever does. None of the workers
    can be declared lost before the transaction ends, as in :func:`stands`.
    """
    loaded = select(Worker.llm, Worker.id).where(Worker.ended_at.is_(None), Worker.llm.is_not(None))
    found = session.execute(loaded.order_by(Worker.id).with_for_update(read=True)).all()
    living = [(str(llm), worker_id) for llm, worker_id in found]
    served = {llm for llm, _ in living}
    return [*living, *((alias, None) for alias in aliases if alias not in served)]


def orphaned(session: Session) -> list[str]:
    """Workers that are gone but still stand on running jobs."""
    living = select(Worker.id).where(Worker.ended_at.is_(None))
    query = select(Job.worker_id).where(Job.state == State.RUNNING, Job.worker_id.not_in(living))
    return [worker_id for worker_id in session.scalars(query.distinct()) if worker_id]


def publish_llm(session: Session, llm: Llm) -> None:
    """Store or replace what is known of an LLM; what ``llm`` does not say stays.

    One statement, for several workers may tell of the same LLM for the first time.
    """
    said = {name: value for name, value in vars(llm).items() if name in Llm.__table__.columns}
    row = upsert(session, Llm).values(said)
    session.execute(row.on_conflict_do_update(index_elements=["alias"], set_=said))


def serve(session: Session, worker_id: str, alias: str) -> None:
    """Note that a worker has loaded an LLM."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(llm=alias))


def tell(session: Session, worker_ids: Collection[str], llms: Mapping[str, str | None]) -> None:
    """Note what the process of some workers can load, and why it cannot load the rest."""
    session.execute(update(Worker).where(Worker.id.in_(worker_ids)).values(llms=dict(llms)))


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with an LLM: whether a living worker has loaded it, can load it, or why none can."""

    is_loaded: bool = False
    can_load: bool = False
    trouble: str | None = None

    @property
    def is_ready(self) -> bool:
        """Whether its jobs will run: at once, or when it has been loaded."""
        return self.is_loaded or self.can_load


def standings(living: Iterable[Worker]) -> dict[str, Standing]:
    """How it stands with each LLM that one of these workers has loaded, can load or has tried to."""
    found: dict[str, Standing] = {}
    for worker in living:
        for alias, trouble in worker.llms.items():
            known = found.get(alias, Standing())
            can_load = known.can_load or trouble is None
            found[alias] = replace(known, can_load=can_load, trouble=known.trouble or trouble)
        if worker.llm is not None:
            found[worker.llm] = replace(found.get(worker.llm, Standing()), is_loaded=True)
    return found


def publish_rate(session: Session, alias: str, jobs_per_second: float, now: datetime) -> None:
    """Store how quickly the jobs of an LLM have been ending."""
    values = {"jobs_per_second": jobs_per_second, "updated_at": now}
    session.execute(update(Llm).where(Llm.alias == alias).values(values))


def llms(session: Session) -> list[Llm]:
    """All LLMs that a worker has told of, by alias."""
    return list(session.scalars(select(Llm).order_by(Llm.alias)))


def prune(session: Session, before: datetime) -> None:
    """Forget workers that ended long ago."""
    session.execute(delete(Worker).where(Worker.ended_at < before))
