"""Finding jobs by their words: in the index, and directly where it has not come to yet."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, column, func, literal_column, select, table
from sqlalchemy import cast as sql_cast
from sqlalchemy import text as sql_text
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import Session

from models.documents import Document, StaleDocument, affordable, among, drafts
from models.job_rows import Job
from models.words import Terms, code

SCAN = 2_000
"""Jobs without a document, or with a stale one, through whose texts one request looks at most."""

RARE = 20_000
"""Documents below whose number PostgreSQL is asked for whole words alone: it reads and sorts all of them."""

_ID = re.compile(r"job_[0-9a-f]{12,32}")
"""An id or the beginning of one; twelve digits are a millisecond, and few jobs share it."""

_INDEX = table("fts_documents", column("rowid"))


def by_id(text: str) -> ColumnElement[bool] | None:
    """The condition for jobs whose id begins with a text; None if it looks like no id."""
    if not _ID.fullmatch(text):
        return None
    return and_(Job.id >= text, Job.id < text + "g")  # behind all hex digits


def hits(session: Session, tenant_id: str, terms: Terms) -> tuple[Any, Select[Any]]:
    """What to order by, and a query for ``seq``, of what the index holds for a tenant.

    A few may be of another tenant: :func:`models.words.code` says why. On PostgreSQL this index has
    no order; by the sum it is kept from going through all documents in theirs.
    """
    if session.get_bind().dialect.name == "sqlite":
        seq = _INDEX.c.rowid
        return seq, select(seq).where(literal_column("fts_documents").op("MATCH")(_asked(tenant_id, terms)))
    return Document.seq + 0, select(Document.seq).where(_tsquery(tenant_id, terms))


def are_rare(session: Session, tenant_id: str, terms: Terms) -> bool:
    """Whether few documents have the terms: PostgreSQL's planner knows common words by its statistics."""
    explain = sql_text("EXPLAIN (FORMAT JSON) SELECT FROM documents WHERE words @@ CAST(:asked AS tsquery)")
    ((explained,),) = session.scalars(explain, {"asked": _asked_of_postgresql(tenant_id, terms)}).all()
    expected: int = explained["Plan"]["Plan Rows"]
    return expected < RARE


def holds(session: Session, tenant_id: str, terms: Terms) -> ColumnElement[bool]:
    """The condition for a job that its document has the terms: for jobs found otherwise."""
    mine = select(Document.seq).where(Document.seq == Job.seq)
    if session.get_bind().dialect.name == "postgresql":
        return mine.where(_tsquery(tenant_id, terms)).exists()
    prefix = code(tenant_id)
    there = [f" {prefix}{word} " for word in terms.whole]
    there += [] if terms.start is None else [f" {prefix}{terms.start}"]
    return mine.where(*(func.instr(Document.words, piece) > 0 for piece in there)).exists()


def _asked(tenant_id: str, terms: Terms) -> str:
    """In the language of FTS5. A word has nothing in it that would need to be escaped."""
    prefix = code(tenant_id)
    asked = [f'"{prefix}{word}"' for word in terms.whole]
    return " ".join(asked if terms.start is None else [*asked, f'"{prefix}{terms.start}"*'])


def _tsquery(tenant_id: str, terms: Terms) -> ColumnElement[bool]:
    return Document.words.op("@@")(sql_cast(_asked_of_postgresql(tenant_id, terms), TSQUERY))


def _asked_of_postgresql(tenant_id: str, terms: Terms) -> str:
    prefix = code(tenant_id)
    asked = [f"'{prefix}{word}'" for word in terms.whole]
    asked += [] if terms.start is None else [f"'{prefix}{terms.start}':*"]
    return " & ".join(asked)


@dataclass(frozen=True, slots=True)
class Range:
    """Jobs with ``seq`` from ``low`` on and below ``high``."""

    low: int
    high: int

    def holds(self, column: Any) -> ColumnElement[bool]:
        """The condition on a column."""
        return and_(column >= self.low, column < self.high)


@dataclass(frozen=True, slots=True)
class Found:
    """The ``seq`` of jobs, newest first, and how far down they were looked for; None: to the end."""

    seqs: list[int]
    floor: int | None = None


def unindexed(
    session: Session, tenant_id: str, query: Select[Any], terms: Terms, within: Range, reached: int
) -> Found:
    """Those of the jobs which ``query`` gives that have the terms, where no document can tell.

    So it is behind ``reached``, and for jobs that have failed of late.
    """
    newest = query.with_only_columns(Job.seq, Job.estimated_tokens).order_by(Job.seq.desc()).limit(SCAN + 1)
    behind = Range(max(within.low, reached + 1), within.high)
    rows = _pairs(session, newest.where(behind.holds(Job.seq)))
    marked = select(StaleDocument.seq).where(
        StaleDocument.tenant_id == tenant_id, within.holds(StaleDocument.seq)
    )
    marks = session.scalars(marked.order_by(StaleDocument.seq.desc()).limit(SCAN + 1)).all()
    if marks:
        rows |= _pairs(session, newest.where(among(session, Job.seq, marks[:SCAN])))
    order = sorted(rows.items(), reverse=True)
    read = affordable(order[:SCAN])
    floors = [read[-1]] if len(read) < len(order) else []
    floors += marks[SCAN - 1 : SCAN] if len(marks) > SCAN else []
    found = [draft.seq for draft in drafts(session, read) if terms.match(draft.words)]
    return Found(found[::-1], max(floors, default=None))


def _pairs(session: Session, query: Select[int, int]) -> dict[int, int]:
    return {row.seq: row.estimated_tokens for row in session.execute(query)}
