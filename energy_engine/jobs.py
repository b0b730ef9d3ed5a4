"""Background jobs, run by the worker process; their queue lives in PostgreSQL.

Of each job one runs at a time, and one waits at most: a job that takes longer than its turn is not
piled up.
"""

import logging
from collections.abc import Callable

from django.conf import settings
from django.db import close_old_connections
from procrastinate.contrib.django import app

from analytics import cadence, faults, rollups, snapshot, webhooks
from ingestion import partitions, sealing

log = logging.getLogger(__name__)


def _periodic(cron: str) -> Callable[[Callable[[], object]], object]:
    """Run a function of this module at the times of `cron`, on a connection that is not stale."""

    def register(work: Callable[[], object]) -> object:
        def run(timestamp: int) -> None:
            close_old_connections()
            try:
                work()
            finally:
                close_old_connections()

        name = work.__name__
        run.__doc__ = work.__doc__  # what the page of jobs says of it
        task = app.task(name=f"energy_engine.jobs.{name}", lock=name, queueing_lock=name)(run)
        return app.periodic(cron=cron)(task)

    return register


@_periodic("* * * * *")
def roll_up() -> None:
    """Sum up the hours that are over, and those that have changed."""
    rollups.roll_up()


@_periodic(f"*/{settings.FLEET_SNAPSHOT_MINUTES} * * * *")
def refresh_fleet_snapshot() -> None:
    """Look at the last 24 hours of every device; learn first how often new devices report."""
    cadence.learn_cadences()
    snapshot.refresh()
    snapshot.refresh_trend()


@_periodic("* * * * *")
def watch_for_faults() -> None:
    """Open the faults that there are, and close those whose cause is gone."""
    faults.watch()


@_periodic("17 3 * * *")
def ensure_partitions() -> None:
    """Create the partitions of the coming three months, every night."""
    partitions.ensure_ahead()


@_periodic("37 3 * * *")
def seal_past_partitions() -> None:
    """Pack the partitions that are past, every night."""
    for name in sealing.seal_past_partitions():
        log.info("sealed %s", name)


@_periodic("57 3 * * *")
def forget_old_webhook_deliveries() -> None:
    """Delete the log of messages to webhooks that are older than 30 days, every night."""
    webhooks.forget_old()
