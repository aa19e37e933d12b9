"""The table of the engines that are measured beside orch8, each run the way that suits it best."""

from __future__ import annotations

from tests.peers.contender import Peer

PEERS: tuple[Peer, ...] = (
    Peer(
        name="dbos",
        title="DBOS",
        distribution="dbos",
        setting="2 processes x 8 workflows, queue polled every 0.1 s",
        finished="SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'",
    ),
    Peer(
        name="absurd",
        title="Absurd",
        distribution="absurd-sdk",
        setting="2 processes x 4 tasks, queue polled every 0.05 s",
        finished="SELECT count(*) FROM absurd.t_bench WHERE state = 'completed'",
    ),
    Peer(
        name="procrastinate",
        title="Procrastinate, chained jobs",
        distribution="procrastinate",
        setting="2 processes x 10 jobs, LISTEN/NOTIFY",
        finished="SELECT count(*) FROM procrastinate_jobs "
        "WHERE status = 'succeeded' AND args @> '{\"left\": 1}'",
    ),
    Peer(
        name="celery_redis",
        title="Celery chain, results in Redis",
        distribution="celery",
        setting="prefork, 2 processes, acks_late",
        extra={"PEERS_RESULTS": "redis"},
        lock="celery",
        program="celery",
        processes=1,
    ),
    Peer(
        name="celery_postgres",
        title="Celery chain, results in Postgres",
        distribution="celery",
        setting="prefork, 2 processes, acks_late",
        extra={"PEERS_RESULTS": "postgres"},
        lock="celery",
        program="celery",
        processes=1,
    ),
    Peer(
        name="prefect",
        title="Prefect",
        distribution="prefect",
        setting="server on Postgres, 2 processes x 2 flows in threads",
        finished="SELECT count(*) FROM flow_run WHERE state_type = 'COMPLETED'",
        server=True,
        extra={
            "PREFECT_HOME": "{folder}",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": "{database}",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "ERROR",
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
            "PREFECT_CLI_PROMPT": "false",
        },
    ),
)
