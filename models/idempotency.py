"""Idempotency keys: the first answer to a key, kept so that a resend gets the same."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Integer, String, Text, delete, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, UtcDateTime


class IdempotencyKey(Base):
    """One key of one tenant, the fingerprint of its request, and the answer it got."""

    __tablename__ = "idempotency_keys"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    status: Mapped[int] = mapped_column(Integer)
    location: Mapped[str] = mapped_column(String(255))
    answer: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client was told: HTTP status, Location and JSON body."""

    status: int
    location: str
    body: str


class KeyReused(Exception):  # noqa: N818  (a fact about the request, not a fault of ours)
    """The key came before with another body."""


class KeyTaken(Exception):  # noqa: N818  (as above)
    """Another request with the same key was a moment faster; this transaction is lost."""


def fingerprint(route: str, body: bytes) -> str:
    """SHA-256 of the route and the body, in hex."""
    return hashlib.sha256(route.encode() + b"\0" + body).hexdigest()


def recall(session: Session, tenant_id: str, key: str, print_: str) -> Answer | None:
    """The first answer to a key, or None if the key is new.

    Raises:
        KeyReused: the key belongs to another request.
    """
    row = session.get(IdempotencyKey, (tenant_id, key))
    if row is None:
        return None
    if not hmac.compare_digest(row.fingerprint, print_):
        raise KeyReused(key)
    return Answer(row.status, row.location, row.answer)


def remember(session: Session, tenant_id: str, key: str, print_: str, answer: Answer, now: datetime) -> None:
    """Keep the answer in the transaction that made it true.

    Raises:
        KeyTaken: another request with this key was first.
    """
    session.add(
        IdempotencyKey(
            tenant_id=tenant_id, key=key, fingerprint=print_, status=answer.status,
            location=answer.location, answer=answer.body, created_at=now,
        )
    )  # fmt: skip
    try:
        session.flush()
    except IntegrityError:
        raise KeyTaken(key) from None


def prune(session: Session, before: datetime, limit: int = 5000) -> int:
    """Forget old keys; returns how many."""
    key = (IdempotencyKey.tenant_id, IdempotencyKey.key)
    old = select(*key).where(IdempotencyKey.created_at < before).limit(limit)
    gone = session.execute(delete(IdempotencyKey).where(tuple_(*key).in_(old)))
    return int(gone.rowcount)  # type: ignore[attr-defined]  # delete gives a CursorResult
