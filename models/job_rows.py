"""The tables of a job: the narrow row that is scanned, and what hangs on it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Serial, UtcDateTime
from models.states import TERMINAL, State


class Job(Base):
    """One row of work. ``seq`` is the order of submission; ``id`` is what clients know.

    ``fence`` rises at every claim and guards every later write; ``failures``
    rises only by an error or a lost worker; ``version`` rises at every change.
    ``rank`` is the place in the queue: ``share`` (fair tag) plus the offset of
    the priority; ranks are compared within a ``lane`` first: jobs of a tenant
    that may run only so many at once have a lane of their own, named for it.
    ``suspect`` rises when a worker is lost with the job (see :mod:`models.suspicion`).
    ``staged`` rows belong to a bulk that is not published yet.
    """

    __tablename__ = "jobs"

    seq: Mapped[int] = mapped_column(Serial, primary_key=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    tenant_id: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(32), default="completion")
    state: Mapped[str] = mapped_column(String(16))
    claimable: Mapped[bool] = mapped_column(Boolean)
    staged: Mapped[bool] = mapped_column(Boolean, default=False)
    llm: Mapped[str] = mapped_column(String(64))
    lane: Mapped[str] = mapped_column(String(64), default="", server_default="")
    priority: Mapped[int] = mapped_column(SmallInteger)
    share: Mapped[int] = mapped_column(BigInteger)
    rank: Mapped[int] = mapped_column(BigInteger)
    estimated_tokens: Mapped[int] = mapped_column(Integer)
    agent: Mapped[str | None] = mapped_column(String(128))
    parent_id: Mapped[str | None] = mapped_column(String(40))
    bulk_id: Mapped[str | None] = mapped_column(String(40))
    retry_of: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    run_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    timeout_seconds: Mapped[float] = mapped_column(Float)
    max_attempts: Mapped[int] = mapped_column(SmallInteger)
    failures: Mapped[int] = mapped_column(SmallInteger, default=0)
    suspect: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    fence: Mapped[int] = mapped_column(Integer, default=0)
    version: Mapped[int] = mapped_column(Integer, default=1)
    worker_id: Mapped[str | None] = mapped_column(String(40))
    cancel_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    prompt_tokens: Mapped[int | None] = mapped_column(Integer)
    cached_tokens: Mapped[int | None] = mapped_column(Integer)
    completion_tokens: Mapped[int | None] = mapped_column(Integer)
    error_type: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    extra: Mapped[dict[str, str]] = mapped_column("metadata", JSON)
    tags: Mapped[list[str]] = mapped_column(JSON)

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return State(self.state) in TERMINAL

    def is_held(self, fence: int) -> bool:
        """Whether the job runs under this fence: who claimed it may still say what becomes of it."""
        return self.state == State.RUNNING and self.fence == fence

    @property
    def attempt(self) -> int:
        """The number of the attempt as clients see it: failures so far, and one."""
        return self.failures + (0 if self.state == State.FAILED and self.failures else 1)


Index(
    "ix_jobs_claim", Job.llm, Job.lane, Job.rank, Job.seq, Job.id,
    # SQLite uses a partial index only for a condition spelled like its own: Job.claimable is "= 1" there.
    sqlite_where=text("claimable = 1"), postgresql_where=text("claimable"),
)  # fmt: skip
Index(
    "ix_jobs_suspects", Job.llm, Job.lane, Job.rank, Job.seq,
    sqlite_where=text("claimable = 1 AND suspect > 0"), postgresql_where=text("claimable AND suspect > 0"),
)  # fmt: skip
Index(
    "ix_jobs_due", Job.run_at,
    sqlite_where=text("state = 'scheduled'"), postgresql_where=text("state = 'scheduled'"),
)  # fmt: skip
Index(
    "ix_jobs_expiry", Job.expires_at,
    sqlite_where=text("expires_at IS NOT NULL AND finished_at IS NULL"),
    postgresql_where=text("expires_at IS NOT NULL AND finished_at IS NULL"),
)  # fmt: skip
Index(
    "ix_jobs_agent_order", Job.tenant_id, Job.agent, Job.seq,
    sqlite_where=text("agent IS NOT NULL AND finished_at IS NULL"),
    postgresql_where=text("agent IS NOT NULL AND finished_at IS NULL"),
)  # fmt: skip
Index(
    "ix_jobs_agent_ended", Job.tenant_id, Job.agent, Job.seq,
    sqlite_where=text("agent IS NOT NULL AND finished_at IS NOT NULL"),
    postgresql_where=text("agent IS NOT NULL AND finished_at IS NOT NULL"),
)  # fmt: skip
Index(
    # An agent's jobs run one at a time: the database itself refuses a second that may run or runs.
    "uq_jobs_agent_active", Job.tenant_id, Job.agent, unique=True,
    sqlite_where=text("agent IS NOT NULL AND (claimable = 1 OR state = 'running')"),
    postgresql_where=text("agent IS NOT NULL AND (claimable OR state = 'running')"),
)  # fmt: skip
Index(
    "ix_jobs_running", Job.worker_id,
    sqlite_where=text("state = 'running'"), postgresql_where=text("state = 'running'"),
)  # fmt: skip
Index("ix_jobs_tenant_state", Job.tenant_id, Job.state, Job.seq)
Index("ix_jobs_tenant_seq", Job.tenant_id, Job.seq)
Index(
    "ix_jobs_bulk", Job.bulk_id, Job.state,
    sqlite_where=text("bulk_id IS NOT NULL"), postgresql_where=text("bulk_id IS NOT NULL"),
)  # fmt: skip


class Payload(Base):
    """What a job asks (JSON of :class:`models.requests.CompletionRequest`) and what is kept of its attempt.

    That are tokens, and the seconds that they took: an attempt that was parked goes on from both.
    """

    __tablename__ = "payloads"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64))
    request: Mapped[str] = mapped_column(Text)
    progress: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    spent_seconds: Mapped[float] = mapped_column(Float, default=0.0, server_default="0")


class Result(Base):
    """What a job gave; its key makes a second one impossible."""

    __tablename__ = "results"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64))
    text: Mapped[str] = mapped_column(Text)
    json: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    finish_reason: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Attempt(Base):
    """One try at a job by a worker, under a fence.

    ``started_at`` is the claim, ``first_step_at`` the moment the decoder took
    the row (known when the attempt is over); ``outcome`` is empty while it runs.
    """

    __tablename__ = "attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64))
    fence: Mapped[int] = mapped_column(Integer, primary_key=True)
    worker_id: Mapped[str] = mapped_column(String(40))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    first_step_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    outcome: Mapped[str | None] = mapped_column(String(32))
    error_type: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)


class JobTag(Base):
    """A tag of a job, for filters."""

    __tablename__ = "job_tags"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)
    seq: Mapped[int] = mapped_column(ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True, index=True)
