"""Structured logs: one line per event, for people or as JSON."""

from __future__ import annotations

import logging
import os
import sys

import structlog

from orch8.config import Settings, remarks


def configure(settings: Settings) -> None:
    """Events go to stderr at the configured level; libraries' own log lines go the same way.

    The first events are warnings of variables that change nothing.
    """
    level = logging.getLevelNamesMapping().get(settings.log_level.upper(), logging.INFO)
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for chatty in ("celery.app.trace", "celery.worker.strategy", "celery.beat"):
        # A line for every tick and wake-up would bury the ones that matter; Flower shows them all.
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))
    render: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    for remark in remarks(os.environ):
        structlog.get_logger(__name__).warning("config.remark", about=remark)
