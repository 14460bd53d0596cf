"""The audit trail: who did what to which thing, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Index, String, Text, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, Serial, UtcDateTime, rows_into
from models.rows import later

SYSTEM = "system"
"""The actor of what the service does by itself."""


class Audit(Base):
    """One act. ``actor`` is a key's id, a worker's id or ``system``; ``details`` is JSON text."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_tenant_id_subject", "tenant_id", "subject"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64))
    details: Mapped[str] = mapped_column(Text)


_INSERT = rows_into(Audit)


def row(
    tenant_id: str, actor: str, action: str, subject: str, now: datetime, **details: Any
) -> dict[str, Any]:
    """The values of one act, such as ``job.cancel`` on ``job_…``."""
    return {
        "tenant_id": tenant_id,
        "at": now,
        "actor": actor,
        "action": action,
        "subject": subject,
        "details": orjson.dumps(details).decode(),
    }


def record(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Store acts made by :func:`row`, at the end of the transaction."""
    later(session, _INSERT, rows)


def page(session: Session, tenant_id: str, before: int | None, limit: int) -> list[Audit]:
    """Acts of a tenant, newest first, those before the one with id ``before``."""
    query = select(Audit).where(Audit.tenant_id == tenant_id)
    if before is not None:
        query = query.where(Audit.id < before)
    return list(session.scalars(query.order_by(Audit.id.desc()).limit(limit)))
