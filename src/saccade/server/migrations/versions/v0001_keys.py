"""Keys, the calls in their sliding windows, and usage per day."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the four tables."""
    op.create_table(
        "keys",
        sql.Column("id", sql.String(24), primary_key=True),
        sql.Column("name", sql.String(80), nullable=False),
        sql.Column("digest", sql.String(64), nullable=False, unique=True),
        sql.Column("prefix", sql.String(16), nullable=False),
        sql.Column("scopes", sql.Text, nullable=False),
        sql.Column("models", sql.Text, nullable=False),
        sql.Column("endpoints", sql.Text, nullable=False),
        sql.Column("quota_calls", sql.Integer),
        sql.Column("quota_window_s", sql.Integer),
        sql.Column("created", sql.Double, nullable=False),
        sql.Column("expires", sql.Double),
        sql.Column("revoked", sql.Double),
        sql.Column("last_used", sql.Double),
    )
    op.create_table(
        "windows",
        sql.Column("key_id", sql.String(24), primary_key=True),
        sql.Column("live", sql.Integer, nullable=False),
    )
    op.create_table(
        "hits",
        sql.Column("id", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sql.Column("key_id", sql.String(24), nullable=False),
        sql.Column("at", sql.Double, nullable=False),
        sql.Column("token", sql.String(32), nullable=False),
    )
    op.create_index("hits_by_key", "hits", ["key_id", "at"])
    op.create_table(
        "usage",
        sql.Column("day", sql.String(10), primary_key=True),
        sql.Column("key_id", sql.String(24), primary_key=True),
        sql.Column("model", sql.String(200), primary_key=True),
        sql.Column("calls", sql.Integer, nullable=False),
        sql.Column("errors", sql.Integer, nullable=False),
    )
