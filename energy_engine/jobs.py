"""Background jobs, run by the worker process; their queue lives in PostgreSQL."""

import logging

from procrastinate.contrib.django import app

from ingestion import partitions, sealing

log = logging.getLogger(__name__)


@app.periodic(cron="17 3 * * *")
@app.task(pass_context=False)
def ensure_partitions(timestamp: int) -> None:
    """Create the partitions of the coming three months, every night."""
    partitions.ensure_ahead()


@app.periodic(cron="37 3 * * *")
@app.task(pass_context=False, lock="seal_past_partitions")
def seal_past_partitions(timestamp: int) -> None:
    """Pack the partitions that are past, every night."""
    for name in sealing.seal_past_partitions():
        log.info("sealed %s", name)
