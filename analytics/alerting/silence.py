"""Silent devices, and sites where many devices are silent: one statement finds both."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import inf
from typing import Any, Final

from django.db.models import Q

from analytics.alerting.findings import Finding, Findings
from analytics.models import Fault, FaultKind, FaultState, FaultThresholds
from analytics.rollups.cadence import PAUSES_OF
from analytics.sql import STATEMENTS
from fleet.stores.statements import Statement, from_row

# How many of its longest pauses a device may be silent: one that sleeps between charges is not.
PAUSES_ENDURED: Final = 3.0

_silent_devices: Final = Statement(STATEMENTS / "silent_devices.sql")
_silence_last_week: Final = Statement(STATEMENTS / "silence_last_week.sql")


def find_silence(now: datetime, thresholds: FaultThresholds) -> Findings:
    """Return silent devices and sites, and those that have a fault for it; two statements."""
    silent = _silent_devices.rows({"now": now, **_limits(thresholds)})
    sites = _sites(silent)
    covered = {site.site_id for site in sites if _covers_its_devices(site)}
    found = Findings(sites, [])
    for row in silent:
        device = from_row(Finding, row)
        is_of_site = device.is_bad and device.site_id in covered
        (found.of_sites if is_of_site else found.alone).append(device)
    return found


def silence_last_week(span: Mapping[str, Any], thresholds: FaultThresholds) -> dict[FaultKind, int]:
    """Return how many faults of devices and of sites would have opened in `span`."""
    (row,) = _silence_last_week.rows({**span, "pauses_of": PAUSES_OF, **_limits(thresholds)})
    return {FaultKind.SILENT: row.of_devices, FaultKind.SITE_SILENT: row.of_sites}


def _limits(thresholds: FaultThresholds) -> dict[str, float]:
    return {
        "pauses": PAUSES_ENDURED,
        "cadences": thresholds.silent_opens_cadences,
        "minutes": thresholds.silent_opens_minutes,
        "devices": thresholds.site_silent_devices,
    }


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
    site = Finding(
        kind=FaultKind.SITE_SILENT,
        vehicle_id=None,
        meter_id=None,
        site_id=site_id,
        value=float(number),
        threshold=float(threshold),
        is_bad=number >= threshold,
        is_gone=False,
    )
    if fault is None:
        return site
    return site._replace(
        is_gone=number < fault.threshold / 2,
        fault_id=fault.pk,
        fault_state=fault.state,
        fault_value=fault.value,
        recovering_since=fault.recovering_since,
        closed_at=fault.closed_at,
    )


def _covers_its_devices(site: Finding) -> bool:
    """Return whether a site's fault covers its silent devices, even if it was closed by hand."""
    return site.is_bad or site.has_fault or (site.fault_id is not None and not site.is_gone)
