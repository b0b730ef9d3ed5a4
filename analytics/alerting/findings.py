"""What a finder returns: what is wrong in the fleet now, together with the faults for it."""

from datetime import datetime
from typing import NamedTuple

from analytics.models import FaultState


class Finding(NamedTuple):
    """What is known of a device or a site, and its fault.

    `value` is null if nothing is known. The fault is the one that is not closed, or else the latest
    one that was closed by hand while its cause lasted.
    """

    kind: str
    vehicle_id: str | None
    meter_id: str | None
    site_id: int | None
    value: float | None
    threshold: float
    is_bad: bool
    is_gone: bool
    fault_id: int | None = None
    fault_state: str | None = None
    fault_value: float = 0.0
    recovering_since: datetime | None = None
    closed_at: datetime | None = None

    @property
    def has_fault(self) -> bool:
        """Whether its fault is not closed."""
        return self.fault_id is not None and self.fault_state != FaultState.CLOSED


class Findings(NamedTuple):
    """What the watch has to check; `of_sites`: silent devices covered by their site's fault."""

    alone: list[Finding]
    of_sites: list[Finding]
