"""The Celery application: wake-ups, ticks and nothing else."""
