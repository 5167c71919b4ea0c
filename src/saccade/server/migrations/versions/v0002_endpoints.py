"""Dedicated endpoints, so that they outlive the server."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the table; what an endpoint is lies in one JSON document, written and read as a whole."""
    op.create_table(
        "endpoints",
        sql.Column("name", sql.String(128), primary_key=True),
        sql.Column("document", sql.Text, nullable=False),
    )


def downgrade() -> None:
    """Takes it away."""
    op.drop_table("endpoints")
