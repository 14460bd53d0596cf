"""Documents: the words of each job, indexed some time after it was submitted.

Nothing of this happens while a job is submitted or ends; the errands worker
catches up in small steps (:mod:`workers.indexing`). What it has not come to
yet is searched directly (:mod:`models.search`). Up to which job it has come is
nowhere written down: it is the last that has a document. So when the last jobs
are deleted, and SQLite gives their numbers to new ones, these are not missed.

The index itself (on SQLite an FTS5 table kept by triggers, on PostgreSQL a GIN
index) is made by the migrations; its name begins with ``fts_``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    ForeignKey,
    String,
    Table,
    Text,
    bindparam,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, rows_into
from models.job_rows import Job, Payload
from models.rows import later
from models.words import code, words_of

MOST_TOKENS = 1_000_000
"""Estimated tokens of the jobs whose texts are read at once, some 4 MB; one job may have more."""


class Document(Base):
    """The words of one job, each behind the code of its tenant.

    On SQLite they stand in one text, with a space before and behind each.
    """

    __tablename__ = "documents"

    seq: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    tenant_id: Mapped[str] = mapped_column(String(64))
    words: Mapped[Any] = mapped_column(Text().with_variant(TSVECTOR(), "postgresql"))


class StaleDocument(Base):
    """A job that got an error message: its document, made or yet to be made, may lack the words."""

    __tablename__ = "stale_documents"

    seq: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    tenant_id: Mapped[str] = mapped_column(String(64))


_DOCUMENTS = cast(Table, Document.__table__)
_MARK = rows_into(StaleDocument)


def mark_stale(session: Session, jobs: Iterable[Job]) -> None:
    """Note that jobs have an error message now; to be called in the transaction that ends them."""
    marks = [{"seq": job.seq, "tenant_id": job.tenant_id} for job in jobs if job.error_message]
    later(session, _MARK, marks)


@dataclass(frozen=True, slots=True)
class Draft:
    """The words of a job as they were read, to be stored if the job is still the same."""

    seq: int
    job_id: str
    tenant_id: str
    words: list[str]


@dataclass(frozen=True, slots=True)
class Horizon:
    """The newest job that can be seen, and which transactions may still bring older ones.

    On PostgreSQL jobs become visible in another order than that of their numbers. Who stores a
    job first takes its share of the queue, and so has a transaction's number before the job has
    its own. So all jobs up to ``newest`` that are not seen belong to transactions with a number
    below ``following``, and once ``oldest``, the first that goes on, is not below it, none is missing.
    On SQLite there is one writer, and nothing is ever missing.
    """

    newest: int
    oldest: int = 0
    following: int = 0


_OLDEST = text("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")
_FOLLOWING = text("SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint)")


def horizon(session: Session) -> Horizon:
    """How far one can see; in a transaction that has one snapshot, :meth:`models.database.Database.read`."""
    newest = session.scalar(select(func.max(Job.seq))) or 0
    if session.get_bind().dialect.name == "sqlite":
        return Horizon(newest)
    # The second gives this transaction a number: greater than that of all which had one at the snapshot.
    return Horizon(newest, session.scalars(_OLDEST).one(), session.scalars(_FOLLOWING).one())


def reached(session: Session) -> int:
    """The number of the last job that has a document; all before it have one too. 0 if there is none."""
    return session.scalar(select(func.max(Document.seq))) or 0


def behind(session: Session) -> int:
    """By how many numbers the last job is ahead of the last with a document: about so many jobs have none."""
    return max(0, (session.scalar(select(func.max(Job.seq))) or 0) - reached(session))


def pending(session: Session, upto: int, limit: int) -> list[Draft]:
    """Drafts for the next jobs without a document, none behind the one with ``seq`` = ``upto``."""
    query = select(Job.seq, Job.estimated_tokens).where(Job.seq > reached(session), Job.seq <= upto)
    return drafts(session, affordable(session.execute(query.order_by(Job.seq).limit(limit)).all()))


def stale(session: Session, limit: int) -> list[Draft]:
    """Drafts for jobs whose document lacks the words of their error."""
    marked = select(StaleDocument.seq).where(StaleDocument.seq <= reached(session))
    marks = session.scalars(marked.order_by(StaleDocument.seq).limit(limit)).all()
    if not marks:
        return []
    query = select(Job.seq, Job.estimated_tokens).where(among(session, Job.seq, marks)).order_by(Job.seq)
    return drafts(session, affordable(session.execute(query).all()))


def affordable(rows: Sequence[Any]) -> list[int]:
    """The ``seq`` of as many rows (with estimated tokens), from the first on, as may be read at once."""
    chosen: list[int] = []
    tokens = 0
    for seq, estimated in rows:
        tokens += estimated
        if chosen and tokens > MOST_TOKENS:
            break
        chosen.append(seq)
    return chosen


def drafts(session: Session, seqs: Collection[int]) -> list[Draft]:
    """Drafts of some jobs, in their order."""
    if not seqs:
        return []
    columns = (Job.seq, Job.id, Job.tenant_id, Job.error_message, Payload.request)
    query = select(*columns).join(Payload, Payload.job_id == Job.id).where(among(session, Job.seq, seqs))
    return [
        Draft(seq, job_id, tenant_id, words_of(request, error))
        for seq, job_id, tenant_id, error, request in session.execute(query.order_by(Job.seq))
    ]


def among(session: Session, column: Any, seqs: Collection[int]) -> ColumnElement[bool]:
    """Whether a column is one of some numbers: one value for the database, however many they are."""
    if session.get_bind().dialect.name == "postgresql":
        return cast(ColumnElement[bool], column == func.any(sql_cast(list(seqs), ARRAY(BigInteger))))
    listed = "[" + ",".join(map(str, seqs)) + "]"
    return cast(ColumnElement[bool], column.in_(select(func.json_each(listed).table_valued("value").c.value)))


def _words(dialect: str) -> ColumnElement[Any]:
    """What stands in the column, from the parameter: a list on PostgreSQL, one text on SQLite."""
    given: ColumnElement[Any] = bindparam("given")
    return func.array_to_tsvector(sql_cast(given, ARRAY(Text))) if dialect == "postgresql" else given


@cache
def _insert(dialect: str) -> Executable:
    kind = postgresql.Insert if dialect == "postgresql" else sqlite.Insert
    values = {"seq": bindparam("number"), "tenant_id": bindparam("tenant"), "words": _words(dialect)}
    return kind(_DOCUMENTS).values(values).on_conflict_do_nothing(index_elements=["seq"])


@cache
def _update(dialect: str) -> Executable:
    return update(_DOCUMENTS).where(_DOCUMENTS.c.seq == bindparam("number")).values(words=_words(dialect))


def store(session: Session, made: Sequence[Draft]) -> None:
    """Add documents, but not for jobs that are gone or have one."""
    rows = _rows(session, made)
    if rows:
        session.connection().execute(_insert(session.get_bind().dialect.name), rows)


def refresh(session: Session, made: Sequence[Draft]) -> None:
    """Make documents anew and forget that they were stale."""
    rows = _rows(session, made)
    if rows:
        session.connection().execute(_update(session.get_bind().dialect.name), rows)
    session.execute(delete(StaleDocument).where(among(session, StaleDocument.seq, [d.seq for d in made])))


def _rows(session: Session, made: Sequence[Draft]) -> list[dict[str, Any]]:
    """Values for the jobs that are still what they were; they stay until the transaction ends."""
    query = select(Job.seq, Job.id).where(among(session, Job.seq, [draft.seq for draft in made]))
    query = query.order_by(Job.seq).with_for_update(read=True, key_share=True)
    there = {row.seq: row.id for row in session.execute(query)}
    as_text = session.get_bind().dialect.name == "sqlite"
    rows = []
    for draft in made:
        if there.get(draft.seq) != draft.job_id:
            continue
        prefix = code(draft.tenant_id)
        own = [prefix + word for word in draft.words]
        value = f" {' '.join(own)} " if as_text else own
        rows.append({"number": draft.seq, "tenant": draft.tenant_id, "given": value})
    return rows
