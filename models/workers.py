"""Workers and the LLMs they serve, as rows that the API can read without MLX."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Integer, String, delete, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, UtcDateTime, upsert
from models.job_rows import Job
from models.states import State


class Worker(Base):
    """A process of ours. ``beats`` is raised for as long as it lives: liveness trusts no clock.

    ``llm`` is the alias of the LLM that an inference worker has loaded.
    """

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    llm: Mapped[str | None] = mapped_column(String(64))
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int] = mapped_column(Integer)
    beats: Mapped[int] = mapped_column(BigInteger, default=0)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    figures: Mapped[dict[str, Any]] = mapped_column(JSON)


class Llm(Base):
    """What a worker says of the LLM it serves under an alias."""

    __tablename__ = "llms"

    alias: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    context_length: Mapped[int] = mapped_column(Integer)
    vocabulary: Mapped[int] = mapped_column(Integer)
    fingerprint: Mapped[str] = mapped_column(String(64))
    tokenizer: Mapped[str] = mapped_column(String(1024))
    ready: Mapped[bool] = mapped_column(Boolean)
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
    """Note that a worker has stopped or is lost; an LLM that nobody else serves is not ready any more."""
    mine = update(Worker).where(Worker.id == worker_id, Worker.ended_at.is_(None))
    llms_ended = session.scalars(mine.values(ended_at=now).returning(Worker.llm)).all()
    for alias in filter(None, llms_ended):
        note_readiness(session, alias)


def alive(session: Session) -> list[Worker]:
    """Workers that have neither stopped nor been declared lost."""
    return list(session.scalars(select(Worker).where(Worker.ended_at.is_(None))))


def serving(session: Session, llm: str) -> list[str]:
    """The ids of living workers that have loaded an LLM."""
    return list(session.scalars(select(Worker.id).where(Worker.ended_at.is_(None), Worker.llm == llm)))


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
    """Note that a worker has loaded an LLM, which is ready now if the worker was not declared lost."""
    # An end locks the worker's row before the LLM's. The LLM's may be ours already (publish_llm), and
    # still none waits for the other: an end wants the row of the LLM only where this has been committed.
    session.execute(update(Worker).where(Worker.id == worker_id).values(llm=alias))
    note_readiness(session, alias)


def note_readiness(session: Session, alias: str) -> None:
    """Have an LLM's row say whether a living worker serves it.

    Workers come and go at once. Each locks the row first and then looks, in a statement
    of its own: on PostgreSQL that one sees what those wrote who had the lock before.
    """
    mine = Llm.alias == alias
    session.execute(select(Llm.alias).where(mine).with_for_update())
    served = select(Worker.id).where(Worker.ended_at.is_(None), Worker.llm == alias).exists()
    session.execute(update(Llm).where(mine).values(ready=served))


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
