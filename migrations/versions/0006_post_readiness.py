"""Whether an LLM is ready is what its living workers say, and is not kept beside it any more.

Revision: 0006, after 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema forward."""
    op.drop_column("llms", "ready")


def downgrade() -> None:
    """Take it back: an LLM is ready again when its worker starts anew."""
    op.add_column("llms", sa.Column("ready", sa.Boolean(), nullable=False, server_default=sa.false()))
