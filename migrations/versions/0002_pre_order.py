"""Lanes and suspicion of jobs, limits of tenants, what a queue may do, which LLM a worker serves.

Revision: 0002, after 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _index_claims(*columns: str) -> None:
    op.create_index(
        "ix_jobs_claim",
        "jobs",
        columns,
        sqlite_where=sa.text("claimable = 1"),
        postgresql_where=sa.text("claimable"),
    )


def upgrade() -> None:
    """Bring the schema forward; only the small table of shares is written anew.

    What tenants have reached so far counts for the class ``standard``.
    """
    with op.batch_alter_table("fair_shares") as batch:
        batch.add_column(sa.Column("priority", sa.SmallInteger(), nullable=False, server_default="1"))
        batch.drop_constraint("pk_fair_shares", type_="primary")
        batch.create_primary_key("pk_fair_shares", ["tenant_id", "llm", "priority"])
    with op.batch_alter_table("fair_shares") as batch:
        batch.alter_column("priority", server_default=None)
    op.add_column("jobs", sa.Column("lane", sa.String(64), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("suspect", sa.SmallInteger(), nullable=False, server_default="0"))
    op.add_column("payloads", sa.Column("spent_seconds", sa.Float(), nullable=False, server_default="0"))
    op.add_column("tenants", sa.Column("max_running", sa.Integer(), nullable=True))
    op.add_column("tenants", sa.Column("max_waiting", sa.Integer(), nullable=True))
    op.add_column("queues", sa.Column("mode", sa.String(16), nullable=False, server_default="open"))
    op.add_column("workers", sa.Column("llm", sa.String(64), nullable=True))
    op.drop_index("ix_jobs_claim", table_name="jobs")
    _index_claims("llm", "lane", "rank", "seq", "id")
    op.create_index(
        "ix_jobs_suspects",
        "jobs",
        ["llm", "lane", "rank", "seq"],
        sqlite_where=sa.text("claimable = 1 AND suspect > 0"),
        postgresql_where=sa.text("claimable AND suspect > 0"),
    )


def downgrade() -> None:
    """Take it back: limits, trials and pauses are forgotten; of shares that of ``standard`` is kept."""
    op.execute(sa.text("DELETE FROM fair_shares WHERE priority <> 1"))
    with op.batch_alter_table("fair_shares") as batch:
        batch.drop_constraint("pk_fair_shares", type_="primary")
        batch.create_primary_key("pk_fair_shares", ["tenant_id", "llm"])
        batch.drop_column("priority")
    op.drop_index("ix_jobs_suspects", table_name="jobs")
    op.drop_index("ix_jobs_claim", table_name="jobs")
    _index_claims("llm", "rank", "seq", "id")
    op.drop_column("workers", "llm")
    op.drop_column("queues", "mode")
    op.drop_column("payloads", "spent_seconds")
    op.drop_column("tenants", "max_waiting")
    op.drop_column("tenants", "max_running")
    op.drop_column("jobs", "suspect")
    op.drop_column("jobs", "lane")
