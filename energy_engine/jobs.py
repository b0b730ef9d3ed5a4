"""Background jobs, run by the worker process; their queue lives in PostgreSQL."""

from procrastinate.contrib.django import app

from ingestion import partitions


@app.periodic(cron="17 3 * * *")
@app.task(pass_context=False)
def ensure_partitions(timestamp: int) -> None:
    """Create the partitions of the coming three months, every night."""
    partitions.ensure_ahead()
