"""The overview: the fleet's health, and which devices have problems. overview.js refreshes it."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from analytics import formulas
from analytics.figures.whole_fleet import DeviceCount, FleetTotals, fleet_totals
from analytics.formulas import Health
from analytics.models import FaultState, FleetDay
from energy_engine import environment
from energy_engine.console.lists.listing import shown_id
from energy_engine.console.overview import figures
from energy_engine.console.words.badges import health_badge, local_time
from energy_engine.console.words.durations import duration
from energy_engine.console.words.money import shown_money
from energy_engine.models import JobFailure
from fleet.stores import replica
from fleet.tariffs.costs import Cost
from ingestion.history.pace import SECONDS_BETWEEN_LOOKS, readings_per_second

RENEW_SECONDS: Final = 30
# This many snapshots may be missed before the page says that its figures are old.
_LOOKS_MISSED: Final = 5

_AC_SOURCES: Final = {
    "linked": "its own meter",
    "shared": "a meter shared with others",
    "fleet": "no link: an estimate",
}


class Note(NamedTuple):
    """A line below the number of a tile; the arrow only repeats what the words say."""

    words: str
    arrow: str = ""


class Tile(NamedTuple):
    """A number of the overview; `exact` is the API's unrounded value, None if there is none."""

    name: str
    title: str
    exact: float | None
    shown: str
    unit: str
    notes: list[Note]
    link: str = ""


class Bar(NamedTuple):
    """The vehicles of one health in a bin of efficiency."""

    health: str
    vehicles: int
    width_percent: float


class Bin(NamedTuple):
    """A row of the distribution; `begins` names the health limits within it."""

    label: str
    vehicles: int
    bars: list[Bar]
    begins: list[str]


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Return the context of the admin's index: the overview, if the user may view vehicles."""
    if request.user.has_perm("fleet.view_vehicle"):
        context |= {"title": "Overview", "overview": overview(request)}
    return context


def part(request: HttpRequest) -> HttpResponse:
    """Return the overview alone, with which the page refreshes itself."""
    if not request.user.has_perm("fleet.view_vehicle"):
        raise PermissionDenied
    return render(request, "console/overview.html", {"overview": overview(request)})


def overview(request: HttpRequest) -> dict[str, Any]:
    """Return the overview's context; the number of statements does not grow with the fleet."""
    now = timezone.now()
    totals = replica.read(fleet_totals)
    rate = readings_per_second()
    shown: dict[str, Any] = {
        "now": now,
        "renew_seconds": SECONDS_BETWEEN_LOOKS + 1 if rate is None else RENEW_SECONDS,
        "url": request.build_absolute_uri("/"),
        "simulate": environment.command("simulate"),
        "needs_key": settings.API_AUTH == "required",
        "failing_jobs": _failing_jobs(request),
        "is_empty": not totals.vehicles.total and not totals.meters.total,
    }
    if shown["is_empty"]:
        return shown
    period = totals.period
    age = now - period.end if period else None
    looks = timedelta(minutes=settings.FLEET_SNAPSHOT_MINUTES)
    silent, longest = figures.silent_devices(now)
    sees_faults = request.user.has_perm("analytics.view_fault")
    return shown | {
        "period": period,
        "age_seconds": age and int(age.total_seconds()),
        "age": age and duration(age),
        "is_old": age is not None and age > _LOOKS_MISSED * looks,
        "look_minutes": settings.FLEET_SNAPSHOT_MINUTES,
        "tiles": [
            *_device_tiles(totals),
            *(_energy_tiles(totals) if period else []),
            *([_fault_tile()] if sees_faults else []),
            _rate_tile(rate),
        ],
        "chart": replica.read(_chart),
        "bins": bins(replica.read(figures.distribution)),
        "unknown": totals.health.unknown,
        "worst": _worst(sees_faults),
        "silent": silent,
        "never": _never_heard_of(totals.vehicles, totals.meters, silent),
        "longest": [_silent_row(device, now) for device in longest],
    }


def _failing_jobs(request: HttpRequest) -> list[JobFailure]:
    """Return the jobs whose latest run failed, if the user may view the jobs page."""
    if not request.user.has_perm("procrastinate.view_procrastinatejob"):
        return []
    return list(JobFailure.objects.filter(recovered_at=None).order_by("since"))


def _silent_row(device: figures.SilentDevice, now: datetime) -> dict[str, Any]:
    return {
        "kind": device.kind,
        "id": device.device_id,
        "name": shown_id(device.device_id),
        "link": f"admin:fleet_{device.kind}_change",
        "site": device.site,
        "heard_at": device.received_at,
        "local": local_time(device.received_at, device.site),
        "silent_for": duration(now - device.received_at),
    }


def _never_heard_of(vehicles: DeviceCount, meters: DeviceCount, silent: int) -> int:
    # The counts come from different statements: a device may have been added in between.
    offline = vehicles.total + meters.total - vehicles.online - meters.online
    return max(0, offline - silent)


# --- Tiles ------------------------------------------------------------------------------------


def _device_tiles(totals: FleetTotals) -> Iterable[Tile]:
    minutes = settings.ONLINE_WINDOW // timedelta(minutes=1)
    for kind, count in (("vehicle", totals.vehicles), ("meter", totals.meters)):
        page = f"{reverse(f'admin:fleet_{kind}_changelist')}?online=yes"
        title, of_all = f"{kind.capitalize()}s online", f"of {count.total:,}"
        note = Note(f"seen in the last {minutes} min")
        yield Tile(
            f"{kind}s-online", title, count.online, f"{count.online:,}", of_all, [note], page
        )


def _energy_tiles(totals: FleetTotals) -> Iterable[Tile]:
    day = FleetDay.objects.get()
    for name, title, now_kwh, before_kwh in (
        ("ac", "AC in, 24 h", totals.energy_ac_kwh, day.before_ac_kwh),
        ("dc", "DC out, 24 h", totals.energy_dc_kwh, day.before_dc_kwh),
    ):
        yield Tile(name, title, now_kwh, f"{now_kwh:,.1f}", "kWh", [_change(now_kwh, before_kwh)])
    efficiency = totals.efficiency_percent
    before = formulas.efficiency_percent(day.before_dc_kwh, day.before_ac_kwh)
    yield Tile(
        "efficiency",
        "Efficiency, 24 h",
        efficiency,
        "-" if efficiency is None else f"{efficiency:.2f}",
        "%",
        [_change_of_efficiency(efficiency, before)],
    )
    yield _loss_tile()


def _change(now_kwh: float, before_kwh: float) -> Note:
    if before_kwh <= 0:
        return Note("none in the 24 h before")
    percent = 100 * (now_kwh - before_kwh) / before_kwh
    if abs(percent) < 0.05:
        return Note("the same as in the 24 h before", "=")
    more, arrow = ("more", "▲") if percent > 0 else ("less", "▼")
    return Note(f"{abs(percent):,.1f} % {more} than in the 24 h before", arrow)


def _change_of_efficiency(now: float | None, before: float | None) -> Note:
    if now is None or before is None:
        return Note("no AC" if now is None else "none in the 24 h before")
    points = now - before
    if abs(points) < 0.005:
        return Note("the same as in the 24 h before", "=")
    higher, arrow = ("higher", "▲") if points > 0 else ("lower", "▼")
    return Note(f"{abs(points):.2f} percentage points {higher} than in the 24 h before", arrow)


def _loss_tile() -> Tile:
    loss = figures.loss()
    money = [shown_money(Cost(amount), currency) for currency, amount in loss.money.items()]
    notes = [Note(f"{' and '.join(money)} at sites with a tariff")] if money else []
    if loss.unpriced_kwh >= 0.05:
        notes.append(Note(f"{loss.unpriced_kwh:,.1f} kWh of it at times without a price"))
    plural = "" if loss.vehicles == 1 else "s"
    notes.append(
        Note(
            f"AC minus DC of {loss.vehicles:,} vehicle{plural} with a linked meter and known health"
        )
    )
    return Tile("lost", "Lost, 24 h", loss.energy_kwh, f"{loss.energy_kwh:,.1f}", "kWh", notes)


def _fault_tile() -> Tile:
    states = figures.faults_by_state()
    acknowledged = states.get(FaultState.ACKNOWLEDGED, 0)
    pending = states.get(FaultState.OPEN, 0) + acknowledged
    note = Note(f"{acknowledged:,} of them acknowledged" if pending else "no open faults")
    page = reverse("admin:analytics_fault_changelist")
    return Tile("faults", "Faults", pending, f"{pending:,}", "not closed", [note], page)


def _rate_tile(rate: float | None) -> Tile:
    if rate is None:
        note, shown = Note("available in a few seconds"), "-"
    else:
        note = Note("average over at most 90 s, repeats included")
        shown = f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"
    return Tile("rate", "Incoming readings", rate, shown, "per second", [note])


# --- Chart, distribution, worst ---------------------------------------------------------------


def _chart() -> dict[str, Any]:
    hours = figures.hours(timezone.now())
    ac = [known.energy_ac_kwh if known else None for _, known in hours]
    dc = [known.energy_dc_kwh if known else None for _, known in hours]
    efficiency = [
        formulas.efficiency_percent(known.energy_dc_kwh, known.energy_ac_kwh) if known else None
        for _, known in hours
    ]
    return {
        "times": [hour for hour, _ in hours],
        "series": [
            {"label": "AC in", "unit": "kWh", "values": ac, "as": "bar", "axis": "left"},
            {"label": "DC out", "unit": "kWh", "values": dc, "as": "bar", "axis": "left"},
            {
                "label": "Efficiency",
                "unit": "%",
                "values": efficiency,
                "as": "line",
                "axis": "right",
            },
        ],
        "marks": [
            {"label": f"{health.capitalize()} from {limit:g} %", "value": limit, "axis": "right"}
            for health, limit in _limits()
        ],
    }


def _limits() -> tuple[tuple[Health, float], ...]:
    """Return the efficiency from which a vehicle is healthy, and from which it is degraded."""
    return (
        (Health.HEALTHY, settings.HEALTHY_EFFICIENCY_PERCENT),
        (Health.DEGRADED, settings.DEGRADED_EFFICIENCY_PERCENT),
    )


def bins(counted: Iterable[tuple[str, int | None, int]]) -> list[Bin]:
    """Return the rows of the distribution, highest efficiency first, without unknown health.

    They go down to 50 % or to the lowest efficiency. Exactly 100 % belongs to the bin below it.
    """
    vehicles: dict[int, dict[str, int]] = {}
    for health, bin_, number in counted:
        if health != Health.UNKNOWN and bin_ is not None:
            top = figures.LAST_BIN if health == Health.SUSPECT else figures.LAST_BIN - 1
            of_bin = vehicles.setdefault(min(bin_, top), {})
            of_bin[health] = of_bin.get(health, 0) + number
    most = max((sum(of_bin.values()) for of_bin in vehicles.values()), default=1)
    lowest = min(figures.LAST_BIN // 2, *vehicles, figures.LAST_BIN)
    return [
        _bin(bin_, vehicles.get(bin_, {}), most) for bin_ in range(figures.LAST_BIN, lowest - 1, -1)
    ]


def _bin(number: int, vehicles: dict[str, int], most: int) -> Bin:
    low, high = number * figures.BIN_PERCENT, (number + 1) * figures.BIN_PERCENT
    label = "over 100 %" if number == figures.LAST_BIN else f"{low} to {high} %"
    bars = [
        Bar(health, vehicles[health], round(100 * vehicles[health] / most, 2))
        for health in Health
        if health in vehicles
    ]
    begins = [f"{health} from {limit:g} %" for health, limit in _limits() if low <= limit < high]
    return Bin(label, sum(vehicles.values()), bars, begins)


def _worst(sees_faults: bool) -> list[dict[str, Any]]:
    days = figures.worst_days()
    faults = figures.faults_of([day.vehicle_id for day in days]) if sees_faults else {}
    return [
        {
            "id": day.vehicle_id,
            "name": shown_id(day.vehicle_id),
            "site": day.vehicle.site,
            "meter_id": day.meter_id,
            "meter_name": shown_id(day.meter_id or "-"),
            "efficiency_percent": f"{day.efficiency_percent:.2f}",
            "badge": health_badge(day.health),
            "lost_kwh": "-" if day.health == Health.SUSPECT else f"{day.lost_kwh:,.1f}",
            "ac_source": _AC_SOURCES.get(day.ac_source, day.ac_source),
            "fault": faults.get(day.vehicle_id),
        }
        for day in days
    ]
