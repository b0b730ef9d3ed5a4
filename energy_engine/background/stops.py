"""Tell a job that its worker has to end, so that it stops between two batches."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from fleet.stores import stopping

if TYPE_CHECKING:
    from procrastinate import JobContext
    from procrastinate.worker import Worker

# How long a running job may take to finish by itself, before it is asked to stop.
GRACE_SECONDS: Final = 2.0


async def stop_with_worker(
    run: Callable[[], Awaitable[Any]], context: "JobContext", _worker: "Worker"
) -> Any:
    """Run a job; if it stops because its worker ends, it is aborted, but has not failed."""
    from procrastinate.exceptions import JobAborted  # which needs Django's apps

    token = stopping.asked.set(context.should_abort)
    try:
        return await run()
    except stopping.Stopped:
        raise JobAborted from None
    finally:
        stopping.asked.reset(token)
