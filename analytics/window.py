"""The span of time that a figure is about."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone

DEFAULT_LENGTH: Final = timedelta(hours=24)


@dataclass(frozen=True)
class Window:
    """From `starts_at` up to, and without, `ends_at`."""

    starts_at: datetime
    ends_at: datetime

    @classmethod
    def last_24_hours(cls) -> "Window":
        """Return the window that ends now."""
        now = timezone.now()
        return cls(now - DEFAULT_LENGTH, now)
