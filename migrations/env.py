"""What Alembic runs: one transaction over the connection that it was handed."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from migrations.metadata import is_of_the_models, metadata
from models.base import Money, UtcDateTime


def render_item(kind: str, item: Any, _: object) -> str | Literal[False]:
    """Write our own types as the plain ones beneath: a migration must not change with the models."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, Money):
        return "sa.BigInteger()"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    render_item=render_item,
    include_object=is_of_the_models,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
