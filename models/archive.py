"""The form in which a job is kept when its rows are deleted: one JSON object with all that is known of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

import orjson
from sqlalchemy import RowMapping, Table, select
from sqlalchemy.orm import Session

from models.base import Base
from models.costs import Cost
from models.job_rows import Attempt, Job, Payload, Result

_APART = ("job_id", "tenant_id")
"""Columns of a job's other rows that repeat what its own says."""


@dataclass(frozen=True, slots=True)
class Record:
    """One ended job: when it ended, and its line of JSON with the end of line."""

    ended: datetime
    line: bytes


def records(session: Session, seqs: Collection[int]) -> list[Record]:
    """The jobs of ``seqs`` that are there and have ended, in the order of their submission.

    A line has the columns of ``jobs`` (``tags`` and ``metadata`` among them),
    ``request`` as it was asked, ``result`` (null where there is none), and the lists
    ``attempts`` and ``costs``. Times are RFC 3339 in UTC, money is a decimal string.
    """
    jobs = _table(Job)
    ended = select(jobs).where(jobs.c.seq.in_(seqs), jobs.c.finished_at.is_not(None)).order_by(jobs.c.seq)
    found = [_plain(row) for row in session.execute(ended).mappings()]
    ids = [job["id"] for job in found]
    others = (Payload, Result, Attempt, Cost)
    requests, results, attempts, costs = (_rows(session, noun, ids) for noun in others)
    for job in found:
        own = job["id"]
        job["request"] = orjson.Fragment(requests[own][0]["request"])
        job["result"] = next(iter(results[own]), None)
        job["attempts"], job["costs"] = attempts[own], costs[own]
    return [Record(job["finished_at"], _line(job)) for job in found]


def _rows(session: Session, noun: type[Base], ids: Sequence[str]) -> defaultdict[str, list[dict[str, Any]]]:
    """What stands in a table of some jobs, by job, in the order of its key."""
    table = _table(noun)
    rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    query = select(table).where(table.c.job_id.in_(ids)).order_by(*table.primary_key)
    for row in session.execute(query).mappings():
        rows[row["job_id"]].append({name: value for name, value in _plain(row).items() if name not in _APART})
    return rows


def _plain(row: RowMapping) -> dict[str, Any]:
    """The row under names that are nothing but texts, as orjson wants them."""
    return {str(name): value for name, value in row.items()}


def _table(noun: type[Base]) -> Table:
    return cast(Table, noun.__table__)


def _line(job: dict[str, Any]) -> bytes:
    return orjson.dumps(job, default=_money, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def _money(amount: object) -> str:
    if not isinstance(amount, Decimal):
        raise TypeError(type(amount).__name__)
    return f"{amount:f}"
