"""Queues of pull workers: rules that choose one, those that are told of tasks, and the telling."""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

QUEUES = """
CREATE TABLE routing_rules (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    handler_name text NOT NULL,
    match_queue text,
    queue_override text NOT NULL,
    priority integer NOT NULL DEFAULT 0,
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE routing_rules IS
    'In which queue tasks of a handler are offered, whatever their step says.';
COMMENT ON COLUMN routing_rules.match_queue IS 'Only tasks of this queue; NULL: any.';

CREATE TABLE queue_dispatch (
    tenant_id text NOT NULL,
    queue_name text NOT NULL,
    mode text NOT NULL CHECK (mode IN ('poll', 'push')),
    push_url text,
    secret text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, queue_name)
);
COMMENT ON TABLE queue_dispatch IS
    'Queues whose tasks are told to an address when they are offered. They are polled for all the'
    ' same.';
COMMENT ON COLUMN queue_dispatch.secret IS 'Signs what is told; sealed with the encryption key.';

CREATE TABLE task_pushes (
    task_id uuid PRIMARY KEY,
    instance_id uuid NOT NULL,
    node_key text NOT NULL,
    tenant_id text NOT NULL,
    queue_name text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE task_pushes IS
    'Tasks that a queue''s address is still to be told of, written in the transaction that offers'
    ' them. What is told is made up when it is sent.';
COMMENT ON COLUMN task_pushes.next_attempt_at IS
    'While it is being sent: when it counts as lost with its process.';
CREATE INDEX task_pushes_due ON task_pushes (tenant_id, queue_name, next_attempt_at);
"""


def upgrade() -> None:
    op.execute(QUEUES)


def downgrade() -> None:
    for table in ("task_pushes", "queue_dispatch", "routing_rules"):
        op.execute(f"DROP TABLE {table}")
