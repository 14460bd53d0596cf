"""How many jobs of a tenant may wait, where that differs from the settings."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.tenants import Tenant


def own_limits(session: Session) -> dict[str, int]:
    """``max_waiting`` of the tenants that have one."""
    query = select(Tenant.id, Tenant.max_waiting).where(Tenant.max_waiting.is_not(None))
    return {tenant_id: most for tenant_id, most in session.execute(query) if most is not None}
