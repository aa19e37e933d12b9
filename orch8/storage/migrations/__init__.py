"""Alembic's scripts: the schema's history, as SQL."""
