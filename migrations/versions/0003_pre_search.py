"""Documents for the full-text search, and an index of agents' jobs that have ended.

Jobs that are there already get their documents from the errands worker, a few at a time.

Revision: 0003, after 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NO_FTS5 = (
    "this Python's SQLite has been built without FTS5, the full-text search that Penstock needs:"
    " use a Python whose SQLite has it, or PostgreSQL"
)
ENDED = "agent IS NOT NULL AND finished_at IS NOT NULL"
INDEX = """
CREATE VIRTUAL TABLE fts_documents USING fts5(
    words, content='documents', content_rowid='seq', detail=none, columnsize=0,
    tokenize="ascii tokenchars '_'"
)
"""
ADDED = "INSERT INTO fts_documents (rowid, words) VALUES (new.seq, new.words);"
GONE = "INSERT INTO fts_documents (fts_documents, rowid, words) VALUES ('delete', old.seq, old.words);"
TRIGGERS = (
    f"CREATE TRIGGER fts_documents_insert AFTER INSERT ON documents BEGIN {ADDED} END",
    f"CREATE TRIGGER fts_documents_delete AFTER DELETE ON documents BEGIN {GONE} END",
    f"CREATE TRIGGER fts_documents_update AFTER UPDATE OF words ON documents BEGIN {GONE} {ADDED} END",
)


def upgrade() -> None:
    """Bring the schema forward.

    Raises:
        RuntimeError: the SQLite at hand has no full-text search.
    """
    on_sqlite = op.get_context().dialect.name == "sqlite"
    if on_sqlite and not op.get_bind().scalar(sa.text("SELECT sqlite_compileoption_used('ENABLE_FTS5')")):
        raise RuntimeError(NO_FTS5)
    words = sa.Text().with_variant(postgresql.TSVECTOR(), "postgresql")
    for table, columns in (
        ("documents", [sa.Column("words", words, nullable=False)]),
        ("stale_documents", []),
    ):
        op.create_table(
            table,
            sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
            sa.Column("tenant_id", sa.String(64), nullable=False),
            *columns,
            sa.ForeignKeyConstraint(["seq"], ["jobs.seq"], name=op.f(f"fk_{table}_seq"), ondelete="CASCADE"),
            sa.PrimaryKeyConstraint("seq", name=op.f(f"pk_{table}")),
        )
    op.create_index(
        "ix_jobs_agent_ended",
        "jobs",
        ["tenant_id", "agent", "seq"],
        sqlite_where=sa.text(ENDED),
        postgresql_where=sa.text(ENDED),
    )
    if on_sqlite:
        for statement in (INDEX, *TRIGGERS):
            op.execute(statement)
    else:
        # Documents come in batches by the errands worker: it has the time to put them where they belong.
        op.create_index(
            "fts_documents",
            "documents",
            ["words"],
            postgresql_using="gin",
            postgresql_with={"fastupdate": "off"},
        )


def downgrade() -> None:
    """Take it back: texts are searched by reading them again."""
    op.drop_index("ix_jobs_agent_ended", table_name="jobs")
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TABLE fts_documents")
    op.drop_table("stale_documents")
    op.drop_table("documents")
