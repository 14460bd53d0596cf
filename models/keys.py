"""API keys: ``pk_<id>_<secret>``; only a hash of the secret is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, UtcDateTime

SHAPE = re.compile(r"pk_([0-9a-f]{12})_([A-Za-z0-9_-]{1,128})")
"""What is shaped otherwise is never looked up: PostgreSQL, for one, refuses NUL in a text."""

_UNKNOWN = hashlib.sha256(b"").hexdigest()


class ApiKey(Base):
    """A key of a tenant; ``hash`` is SHA-256 of a 256-bit random secret, in hex."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(200))
    hash: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a valid key stands for."""

    key_id: str
    tenant_id: str


def create(session: Session, tenant_id: str, name: str, now: datetime) -> str:
    """Make a key; the returned text is shown once and cannot be had again."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    session.add(ApiKey(id=key_id, tenant_id=tenant_id, name=name, hash=digest, created_at=now))
    session.flush()
    return f"pk_{key_id}_{secret}"


def verify(session: Session, presented: str) -> Caller | None:
    """The caller behind a key; None for a wrong, revoked or malformed one (in constant time)."""
    shape = SHAPE.fullmatch(presented)
    key_id, secret = shape.groups() if shape else ("", "")
    row = session.get(ApiKey, key_id) if shape else None
    digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
    same = hmac.compare_digest(digest, row.hash if row is not None else _UNKNOWN)
    if row is None or not same or row.revoked_at is not None:
        return None
    return Caller(row.id, row.tenant_id)


def revoke(session: Session, tenant_id: str, key_id: str, now: datetime) -> bool:
    """Take a key back; says whether there was one."""
    row = session.get(ApiKey, key_id)
    if row is None or row.tenant_id != tenant_id or row.revoked_at is not None:
        return False
    row.revoked_at = now
    return True


def listed(session: Session, tenant_id: str) -> list[ApiKey]:
    """All keys of a tenant, oldest first."""
    query = select(ApiKey).where(ApiKey.tenant_id == tenant_id)
    return list(session.scalars(query.order_by(ApiKey.created_at, ApiKey.id)))


def any_exist(session: Session) -> bool:
    """Whether any key was ever made."""
    return session.scalar(select(ApiKey.id).limit(1)) is not None
