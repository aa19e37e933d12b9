"""Credentials that steps refer to; their secrets are sealed by the application."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

CREDENTIALS = """
CREATE TABLE credentials (
    id text PRIMARY KEY,
    tenant_id text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    value text NOT NULL,
    refresh_token text,
    refresh_url text,
    description text,
    enabled boolean NOT NULL DEFAULT true,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE credentials IS
    'Secrets of tenants that calls carry. Steps name them by credentials://<id>.';
COMMENT ON COLUMN credentials.value IS
    'enc:v1:<key id>:<base64> under ORCH8_ENCRYPTION_KEY; in the clear only where there is none.';
CREATE INDEX credentials_tenant ON credentials (tenant_id, id);
"""


def upgrade() -> None:
    op.execute(CREDENTIALS)


def downgrade() -> None:
    op.execute("DROP TABLE credentials")
