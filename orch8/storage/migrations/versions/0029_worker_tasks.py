"""What happened to tasks of pull workers, what these logged; commands for them, versions pinned."""

from alembic import op

revision = "0029"
down_revision = "0027"
branch_labels = None
depends_on = None

TASKS = """
CREATE TABLE task_events (
    instance_id uuid NOT NULL,
    task_id uuid NOT NULL,
    id uuid NOT NULL,
    tenant_id text NOT NULL,
    claim_epoch integer NOT NULL,
    worker_id text,
    event text NOT NULL,
    reason text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (instance_id, task_id, id)
);
COMMENT ON TABLE task_events IS
    'What happened to each task of the pull workers: claimed, reclaimed, completed, and so on. For'
    ' people; the engine reads none of it.';

CREATE TABLE task_logs (
    instance_id uuid NOT NULL,
    task_id uuid NOT NULL,
    id uuid NOT NULL,
    tenant_id text NOT NULL,
    block_id text NOT NULL,
    lines jsonb NOT NULL,
    size integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (instance_id, task_id, id)
);
COMMENT ON TABLE task_logs IS 'Lines that pull workers reported with a task, one row a report.';
COMMENT ON COLUMN task_logs.size IS 'Bytes of the lines, of which a task keeps so many.';
"""

WORKERS = """
CREATE TABLE worker_commands (
    id uuid PRIMARY KEY,
    worker_id text NOT NULL,
    command text NOT NULL,
    payload jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE worker_commands IS
    'What pull workers are told to do. Each reads its own, and deletes what it has done.';
CREATE INDEX worker_commands_of ON worker_commands (worker_id, id);

CREATE TABLE version_pins (
    tenant_id text NOT NULL,
    handler_name text NOT NULL,
    min_version text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, handler_name)
);
COMMENT ON TABLE version_pins IS
    'The lowest version that a pull worker of a handler must have to be given its tasks.';
"""


def upgrade() -> None:
    op.execute(TASKS)
    op.execute(WORKERS)


def downgrade() -> None:
    for table in ("version_pins", "worker_commands", "task_logs", "task_events"):
        op.execute(f"DROP TABLE {table}")
