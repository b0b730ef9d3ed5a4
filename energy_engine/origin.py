"""What the work at hand is done for: each log line and each SQL statement of Django's names it."""

from collections.abc import Mapping
from contextvars import ContextVar

# `request_id` of a request, `job` and `job_id` of a job.
origin: ContextVar[Mapping[str, str]] = ContextVar("origin", default={})  # noqa: B039 # never changed
