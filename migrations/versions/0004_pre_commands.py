"""Commands to workers, settings at run time, what is cached of agents, which tenants share prefixes.

Revision: 0004, after 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema forward; no row is written anew."""
    op.create_table(
        "commands",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("llm", sa.String(64), nullable=False),
        sa.Column("worker_id", sa.String(40), nullable=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("takes", sa.SmallInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("taken_by", sa.String(40), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commands")),
    )
    op.create_index("ix_commands_tenant_id_id", "commands", ["tenant_id", "id"])
    op.create_index(op.f("ix_commands_ended_at"), "commands", ["ended_at"])
    for name, state, columns in (
        ("ix_commands_waiting", "waiting", ["llm", "id"]),
        ("ix_commands_running", "running", ["taken_by"]),
    ):
        where = sa.text(f"state = '{state}'")
        op.create_index(name, "commands", columns, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "runtime_settings",
        sa.Column("llm", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("llm", "name", name=op.f("pk_runtime_settings")),
    )
    for column in (
        sa.Column("held_tokens", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("held_where", sa.String(8), nullable=False, server_default="none"),
        sa.Column("held_llm", sa.String(64), nullable=True),
        sa.Column("held_by", sa.String(40), nullable=True),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hits", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("hit_tokens", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False, server_default="0"),
    ):
        op.add_column("agents", column)
    op.add_column(
        "tenants", sa.Column("shares_prefixes", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    """Take it back: commands that wait are forgotten, and so is what was set and what is known of caches."""
    op.drop_column("tenants", "shares_prefixes")
    for name in (
        "prompt_tokens", "hit_tokens", "hits", "held_at", "held_by", "held_llm", "held_where", "held_tokens",
    ):  # fmt: skip
        op.drop_column("agents", name)
    op.drop_table("runtime_settings")
    op.drop_table("commands")
