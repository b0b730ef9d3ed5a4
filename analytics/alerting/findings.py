"""What is wrong in the fleet now, together with the faults that exist for it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import inf
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.db.models import Q

from analytics.alerting import thresholds
from analytics.models import Fault, FaultKind, FaultState
from analytics.sql import STATEMENTS
from fleet.stores.statements import Statement

# An older temperature says nothing about now.
TEMPERATURE_IS_KNOWN_FOR: Final = timedelta(hours=1)
# Nor does a snapshot of a vehicle that is overdue by more than this.
SNAPSHOT_MAY_BE_LATE: Final = timedelta(minutes=5)

_low_efficiency = Statement(STATEMENTS / "low_efficiency.sql")
_hot_batteries = Statement(STATEMENTS / "hot_batteries.sql")
_silent_devices = Statement(STATEMENTS / "silent_devices.sql")


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
    fault_id: int | None
    fault_state: str | None
    fault_value: float
    recovering_since: datetime | None
    closed_at: datetime | None

    @property
    def has_fault(self) -> bool:
        """Whether its fault is not closed."""
        return self.fault_id is not None and self.fault_state != FaultState.CLOSED


class Findings(NamedTuple):
    """What the watch has to check; `of_sites`: silent devices covered by their site's fault."""

    alone: list[Finding]
    of_sites: list[Finding]


def findings(now: datetime) -> Findings:
    """Return everything that is bad at `now` or has a fault; five statements."""
    general = thresholds.default_thresholds()
    snapshot_turn = timedelta(minutes=settings.FLEET_SNAPSHOT_MINUTES)
    efficiencies = _low_efficiency.rows(
        {
            "since": now - 2 * snapshot_turn - SNAPSHOT_MAY_BE_LATE,
            "opens": general.efficiency_opens_percent,
            "closes": general.efficiency_closes_percent,
        }
    )
    batteries = _hot_batteries.rows(
        {
            "since": now - TEMPERATURE_IS_KNOWN_FOR,
            "opens": general.battery_opens_celsius,
            "closes": general.battery_closes_celsius,
        }
    )
    silent = _silent_devices.rows(
        {
            "now": now,
            "cadences": general.silent_opens_cadences,
            "minutes": general.silent_opens_minutes,
            "devices": general.site_silent_devices,
        }
    )
    sites = _sites(silent)
    covered = {site.site_id for site in sites if _covers_its_devices(site)}
    found = Findings([Finding(*row) for row in (*efficiencies, *batteries)] + sites, [])
    for row in silent:
        device = Finding(*row[: len(Finding._fields)])
        is_of_site = device.is_bad and device.site_id in covered
        (found.of_sites if is_of_site else found.alone).append(device)
    return found


def _sites(silent: Sequence[Any]) -> list[Finding]:
    """Return the sites with silent devices or a fault for them; one statement."""
    is_watched = ~Q(state=FaultState.CLOSED) | Q(recovering_since__isnull=True)
    watched = Fault.objects.filter(is_watched, kind=FaultKind.SITE_SILENT).order_by("pk")
    faults = {fault.site_id: fault for fault in watched}
    opens_at = {row.site_id: row.site_opens for row in silent if row.site_id is not None}
    numbers = Counter(row.site_id for row in silent if row.is_bad and row.site_id is not None)
    return [
        _site(site_id, numbers[site_id], opens_at, faults.get(site_id))
        for site_id in {*opens_at, *faults}
    ]


def _site(
    site_id: int | None, number: int, opens_at: Mapping[int | None, int], fault: Fault | None
) -> Finding:
    """Return the finding for a site with `number` silent devices.

    Its fault lasts until the number falls below half of the threshold at which it opened. A site
    that `opens_at` does not list has no silent device.
    """
    threshold = opens_at.get(site_id, inf)
    is_bad = number >= threshold
    site = FaultKind.SITE_SILENT, None, None, site_id, float(number), float(threshold), is_bad
    if fault is None:
        return Finding(*site, False, None, None, 0.0, None, None)
    is_gone = number < fault.threshold / 2
    of_fault = fault.pk, fault.state, fault.value, fault.recovering_since, fault.closed_at
    return Finding(*site, is_gone, *of_fault)


def _covers_its_devices(site: Finding) -> bool:
    """Return whether a site's fault covers its silent devices, even if it was closed by hand."""
    return site.is_bad or site.has_fault or (site.fault_id is not None and not site.is_gone)
