"""The request or job of the current work: log lines and Django's SQL statements name it."""

from collections.abc import Mapping
from contextvars import ContextVar

# `request_id` of a request, `job` and `job_id` of a job.
origin: ContextVar[Mapping[str, str]] = ContextVar("origin", default={})  # noqa: B039 # never changed
