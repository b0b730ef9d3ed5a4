"""Faults as clients get them: in lists, singly, and in webhook messages."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import QueryDict

from analytics.alerting.kinds import KINDS
from analytics.figures.whole_fleet import InvalidFilter
from analytics.models import Fault, FaultChange, FaultKind, FaultState
from fleet.access.keyring import Grant
from fleet.device_ids import are_device_ids

if TYPE_CHECKING:
    Kind = str
    Unit = str
else:
    # The API schema lists their values.
    Kind = Literal[tuple(FaultKind.values)]
    Unit = Literal[tuple(dict.fromkeys(record.unit for record in KINDS.values()))]
# The API schema can't be derived from the choices of the table.
State = Literal["open", "acknowledged", "closed"]

STATES: Final = (*FaultState.values, "all")
_NOT_CLOSED: Final = [str(FaultState.OPEN), str(FaultState.ACKNOWLEDGED)]


class FaultRow(msgspec.Struct):
    """A fault of a vehicle, a meter or a site; a site's fault has neither vehicle nor meter.

    `value` is the latest measurement, in `unit`; `threshold` is the limit at which it opened.
    """

    id: int
    kind: Kind
    state: State
    vehicle_id: str | None = msgspec.field(name="vehicleId")
    meter_id: str | None = msgspec.field(name="meterId")
    site: str | None
    value: float
    unit: Unit
    threshold: float
    opened_at: datetime = msgspec.field(name="openedAt")
    acknowledged_at: datetime | None = msgspec.field(name="acknowledgedAt")
    closed_at: datetime | None = msgspec.field(name="closedAt")


class FaultStep(msgspec.Struct):
    """A change of a fault; `user` is null if the engine made it."""

    state: State
    changed_at: datetime = msgspec.field(name="changedAt")
    user: str | None
    note: str


class FaultHistory(FaultRow, kw_only=True):
    """A fault and its changes, oldest first."""

    changes: list[FaultStep]


class FaultPage(msgspec.Struct):
    """A page of faults; `next` is the address of the next page."""

    next: str | None
    previous: str | None
    results: list[FaultRow]


def faults() -> QuerySet[Any]:
    """Return all faults, each with its site and `acknowledged_at`."""
    steps = FaultChange.objects.filter(fault=OuterRef("pk"), state=FaultState.ACKNOWLEDGED)
    first_at = Subquery(steps.order_by("pk").values("changed_at")[:1])
    annotated: QuerySet[Any] = Fault.objects.select_related("site").annotate(
        acknowledged_at=first_at
    )
    return annotated


def faults_asked_for(query: QueryDict) -> QuerySet[Any]:
    """Return the faults that `query` asks for; by default, those that are not closed.

    Errors: `InvalidFilter`.
    """
    wanted = Q()
    states = _chosen(query, "state", STATES) or _NOT_CLOSED
    if "all" not in states:
        wanted &= Q(state__in=states)
    if kinds := _chosen(query, "kind", FaultKind.values):
        wanted &= Q(kind__in=kinds)
    if "site" in query:
        wanted &= Q(site__name=query["site"])
    for parameter, field in (("vehicleId", "vehicle_id"), ("meterId", "meter_id")):
        if parameter in query:
            device_id = str(query[parameter])
            if not are_device_ids([device_id]):
                return faults().none()
            wanted &= Q(**{field: device_id})
    return faults().filter(wanted)


def _chosen(query: QueryDict, parameter: str, choices: Sequence[str]) -> list[str]:
    """Return the values of `parameter`, which may be repeated or separated by commas."""
    chosen = [part for text in query.getlist(parameter) for part in text.split(",")]
    if not set(chosen) <= set(choices):
        raise InvalidFilter(f"{parameter} must be one or more of {', '.join(choices)}")
    return chosen


def row(fault: Any) -> FaultRow:
    """Return one of `faults` as clients get it."""
    return FaultRow(
        id=fault.pk,
        kind=fault.kind,
        state=fault.state,
        vehicle_id=fault.vehicle_id,
        meter_id=fault.meter_id,
        site=fault.site and fault.site.name,
        value=fault.value,
        unit=KINDS[fault.kind].unit,
        threshold=fault.threshold,
        opened_at=fault.opened_at,
        acknowledged_at=fault.acknowledged_at,
        closed_at=fault.closed_at,
    )


def within(grant: Grant) -> Q:
    """Return the filter for the faults that `grant` reaches."""
    if grant.is_for_all:
        return Q()
    reached = Q(vehicle_id__in=grant.vehicle_ids) | Q(meter_id__in=grant.meter_ids)
    if grant.site_id is not None:
        reached |= Q(site=grant.site_id, vehicle_id=None, meter_id=None)
    return reached


def history(fault_id: int, reached: Q) -> FaultHistory | None:
    """Return a fault with its changes; None if there is none of that id within `reached`."""
    fault = faults().filter(reached, pk=fault_id).first()
    if fault is None:
        return None
    changes = [
        FaultStep(
            state=change.state,
            changed_at=change.changed_at,
            user=change.user and change.user.get_username(),
            note=change.note,
        )
        for change in fault.changes.select_related("user").order_by("pk")
    ]
    return FaultHistory(**msgspec.structs.asdict(row(fault)), changes=changes)
