"""Settings that can be changed while everything runs: workers read them again and again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from models.base import Base, UtcDateTime, upsert

WINDOW_MS = "window_ms"
"""How long arrivals are gathered before they are admitted together, in milliseconds: a number."""


class RuntimeSetting(Base):
    """What was set for the workers of an LLM, in place of what the settings say."""

    __tablename__ = "runtime_settings"

    llm: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


def put(session: Session, llm: str, name: str, value: Any, now: datetime) -> bool:
    """Set something for the workers of an LLM; False if it was set to just that already."""
    known = of(session, llm)
    if name in known and known[name] == value:
        return False
    said = {"value": value, "updated_at": now}
    row = upsert(session, RuntimeSetting).values(llm=llm, name=name, **said)
    session.execute(row.on_conflict_do_update(index_elements=["llm", "name"], set_=said))
    return True


def of(session: Session, llm: str) -> dict[str, Any]:
    """All that was set for the workers of an LLM, by name."""
    found = session.scalars(select(RuntimeSetting).where(RuntimeSetting.llm == llm))
    return {setting.name: setting.value for setting in found}
