"""Traces: what is shown among an instance's outputs beside what its steps put out."""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

TRACES = """
CREATE TABLE traces (
    instance_id uuid NOT NULL,
    id uuid NOT NULL,
    tenant_id text NOT NULL,
    block_id text NOT NULL,
    output jsonb,
    attempt integer NOT NULL DEFAULT 0,
    after boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (instance_id, id)
);
COMMENT ON TABLE traces IS
    'What is shown among the outputs of an instance beside what its steps put out: marks of gates,'
    ' loops, interceptors and alerts. The engine itself reads none of it.';
COMMENT ON COLUMN traces.after IS
    'Of what is told at one moment: whether it comes after what steps put out, or before it.';
"""


def upgrade() -> None:
    op.execute(TRACES)


def downgrade() -> None:
    op.execute("DROP TABLE traces")
