"""Faults: opened and closed by a watch over the whole fleet, acknowledged and closed by people.

The only writer of faults. Every change of a fault is recorded in the same transaction.

A fault opens at one threshold and closes at another, and only after its cause has been gone for
`CLOSES_AFTER` without interruption. Unknown values neither open nor close a fault. If many devices
of a site are silent, the site has one fault for all of them.

A fault that somebody closes while its cause lasts does not open again until the cause has been gone
once. Kinds that have `reopens` set open again after `HELD_BACK`: by then, no figure is from before.
Silence does not: the device may be retired.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction
from django.utils import timezone

from analytics.alerting import webhooks
from analytics.alerting.findings import Finding
from analytics.alerting.kinds import KINDS, findings
from analytics.alerting.thresholds import default_thresholds
from analytics.models import Fault, FaultChange, FaultNote, FaultState
from analytics.sql import STATEMENTS
from fleet.stores.statements import Statement

CLOSES_AFTER: Final = timedelta(minutes=5)
HELD_BACK: Final = timedelta(hours=24)
CAUSE_IS_GONE: Final = "The cause is gone"
PART_OF_SITE: Final = "Part of the site's fault"

_LONGEST_NOTE: Final = 1000
# Keeps a second watch waiting; any number that nothing else locks.
_WATCH_LOCK: Final = 3_052_617_401

_step_faults = Statement(STATEMENTS / "step_faults.sql")
_open_faults = Statement(STATEMENTS / "open_faults.sql")


class FaultClosed(Exception):
    """The fault is already closed."""


class InvalidNote(ValueError):
    """A note that is too long, or missing where one is required; the text states the rule."""


class _Step(NamedTuple):
    """A change that the watch makes to a fault; `was_closed` is what the watch saw."""

    fault_id: int | None
    was_closed: bool
    value: float
    recovering_since: datetime | None
    note: str | None = None


def watch() -> None:
    """Open and close the faults of the whole fleet, by what is known now.

    The number of statements does not depend on the number of devices. Of two concurrent watches,
    one waits for the other.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_WATCH_LOCK])
        now = timezone.now()
        found = findings(now, default_thresholds())
        steps = [_into_site(device, now) for device in found.of_sites if device.has_fault]
        steps += [step for finding in found.alone if (step := _next_step(finding, now))]
        opening = [finding for finding in found.alone if _opens(finding, now)]
        changes = _take(steps, now) + _open(opening, now)
        if changes:
            webhooks.announce(*FaultChange.objects.filter(pk__in=changes).order_by("pk"))


def acknowledge(fault_id: int, user: AbstractBaseUser | None, note: str = "") -> Fault:
    """Acknowledge a fault; acknowledging it again without a note changes nothing.

    Errors: `Fault.DoesNotExist`, `FaultClosed`, `InvalidNote`.
    """
    note = _checked(note)
    with transaction.atomic():
        fault = _locked(fault_id)
        if fault.state == FaultState.ACKNOWLEDGED and not note:
            return fault
        return _changed(fault, FaultState.ACKNOWLEDGED, user, note)


def close(fault_id: int, user: AbstractBaseUser | None, note: str) -> Fault:
    """Close a fault, with a note that says why.

    Errors: `Fault.DoesNotExist`, `FaultClosed`, `InvalidNote`.
    """
    note = _checked(note)
    if not note:
        raise InvalidNote("Enter a note that says why the fault is closed")
    with transaction.atomic():
        return _changed(_locked(fault_id), FaultState.CLOSED, user, note)


def add_note(fault_id: int, author: AbstractBaseUser | None, text: str) -> FaultNote:
    """Add a note to a fault, whatever its state.

    Errors: `Fault.DoesNotExist`, `InvalidNote`.
    """
    text = _checked(text)
    if not text:
        raise InvalidNote("Enter a note")
    said: dict[str, Any] = {"author": author, "text": text, "written_at": timezone.now()}
    note: FaultNote = FaultNote.objects.create(fault=Fault.objects.get(pk=fault_id), **said)
    return note


def _checked(note: str) -> str:
    note = note.strip()
    if len(note) > _LONGEST_NOTE:
        raise InvalidNote(f"Shorten the note to at most {_LONGEST_NOTE} characters")
    return note


def _locked(fault_id: int) -> Fault:
    fault: Fault = Fault.objects.select_for_update().get(pk=fault_id)
    if fault.state == FaultState.CLOSED:
        raise FaultClosed
    return fault


def _changed(fault: Fault, state: FaultState, user: AbstractBaseUser | None, note: str) -> Fault:
    now = timezone.now()
    fault.state = state
    fault.closed_at = now if state == FaultState.CLOSED else None
    fault.save(update_fields=["state", "closed_at"])
    said: dict[str, Any] = {"user": user, "note": note}
    webhooks.announce(FaultChange.objects.create(fault=fault, changed_at=now, state=state, **said))
    return fault


def _opens(finding: Finding, now: datetime) -> bool:
    if not finding.is_bad or finding.has_fault:
        return False
    if finding.closed_at is None:
        return True
    return KINDS[finding.kind].reopens and finding.closed_at <= now - HELD_BACK


def _next_step(finding: Finding, now: datetime) -> _Step | None:
    """Return the change of a finding's fault; None if it has no fault, or nothing changes."""
    if finding.fault_id is None:
        return None
    recovering_since = (finding.recovering_since or now) if finding.is_gone else None
    value = finding.fault_value
    closes = False
    if finding.has_fault:
        closes = recovering_since is not None and recovering_since <= now - CLOSES_AFTER
        value = _kept_value(finding)
    if (value, recovering_since, closes) == (finding.fault_value, finding.recovering_since, False):
        return None
    note = CAUSE_IS_GONE if closes else None
    return _Step(finding.fault_id, not finding.has_fault, value, recovering_since, note)


def _kept_value(finding: Finding) -> float:
    """Return the value that a fault shows: small differences are not worth a write."""
    if finding.value is None:
        return finding.fault_value
    least_change = KINDS[finding.kind].least_change(finding.fault_value)
    is_news = abs(finding.value - finding.fault_value) >= least_change
    return round(finding.value, 2) if is_news else finding.fault_value


def _into_site(device: Finding, now: datetime) -> _Step:
    # Its cause counts as gone, or it could not open again after the site's fault.
    return _Step(device.fault_id, False, device.fault_value, now, PART_OF_SITE)


def _take(steps: Sequence[_Step], now: datetime) -> list[int]:
    """Apply steps, closing the faults whose step has a note; return the ids of the changes."""
    if not steps:
        return []
    rows = _step_faults.rows(
        {
            "fault_ids": [step.fault_id for step in steps],
            "were_closed": [step.was_closed for step in steps],
            "values": [step.value for step in steps],
            "recovering_since": [step.recovering_since for step in steps],
            "notes": [step.note for step in steps],
            "now": now,
        }
    )
    return [row.change_id for row in rows]


def _open(opening: Sequence[Finding], now: datetime) -> list[int]:
    """Open a fault for each finding; return the ids of the changes."""
    if not opening:
        return []
    rows = _open_faults.rows(
        {
            "kinds": [str(finding.kind) for finding in opening],
            "vehicle_ids": [finding.vehicle_id for finding in opening],
            "meter_ids": [finding.meter_id for finding in opening],
            "site_ids": [finding.site_id for finding in opening],
            "values": [round(finding.value or 0.0, 2) for finding in opening],
            "thresholds": [finding.threshold for finding in opening],
            "now": now,
        }
    )
    return [row.change_id for row in rows]
