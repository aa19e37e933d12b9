"""Metric buckets: what processes count that nobody scrapes, added up."""

from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

BUCKETS = """
CREATE TABLE metric_buckets (
    metric text NOT NULL,
    le double precision NOT NULL,
    amount double precision NOT NULL,
    PRIMARY KEY (metric, le)
) WITH (fillfactor = 50);
COMMENT ON TABLE metric_buckets IS
    'What processes count that nobody scrapes: each adds what it counted every few seconds.';
COMMENT ON COLUMN metric_buckets.le IS
    'The upper bound of a bucket of a histogram; Infinity for the last one and for plain counters;'
    ' -Infinity for the sum of what a histogram observed.';
"""


def upgrade() -> None:
    op.execute(BUCKETS)


def downgrade() -> None:
    op.execute("DROP TABLE metric_buckets")
