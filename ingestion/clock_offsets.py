"""The devices whose clock is known to be wrong, and by how much; cached in each process.

Usually there are none, and then a request pays nothing for them. Each process looks every two
seconds which there are, so a change applies everywhere within that time.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Final

from fleet.stores.statements import Statement
from ingestion.decoding import with_clock_offsets
from ingestion.readings import DeviceKind, Offsets
from ingestion.sql import STATEMENTS

_known = Statement(STATEMENTS / "clock_offsets.sql")


class ClockOffsets:
    """The clock offsets of all devices that have one; for any thread or greenlet."""

    LOOK_SECONDS: Final = 2.0

    def __init__(self) -> None:
        self._offsets: Offsets = {}
        self._looked_at = -self.LOOK_SECONDS

    def applied(self) -> AbstractContextManager[None]:
        """Correct the timestamps that are decoded in the block."""
        offsets = self.known()
        return with_clock_offsets(offsets) if offsets else nullcontext()

    def known(self) -> Offsets:
        """Return the offsets by kind and id; one call every two seconds makes a query."""
        now = time.monotonic()
        if now - self._looked_at > self.LOOK_SECONDS:
            self._looked_at = now  # other threads continue with the cached offsets
            self.look()
        return self._offsets

    def look(self) -> None:
        """Look for changes now."""
        offsets: dict[DeviceKind, dict[str, timedelta]] = {}
        for row in _known.rows({}):
            offset = timedelta(seconds=row.clock_offset_seconds)
            offsets.setdefault(DeviceKind(row.kind), {})[row.name] = offset
        self._offsets = offsets


clock_offsets = ClockOffsets()
