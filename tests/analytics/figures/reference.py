"""What figures are, in plain Python over all of history: the judge of the truth test.

Shares no line with the product, and knows neither sums, marks nor caches.
"""

from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from django.db import connection


class Device(NamedTuple):
    """A device's counted readings in time order, and how they are to be read."""

    register: str
    max_power_kw: float | None
    readings: list[tuple[datetime, float, float | None]]

    def steps(self) -> list[tuple[datetime, float | None]]:
        """Return what each reading adds, in kWh; None for a step that is suspect."""
        if self.register == "interval":
            return [(at, kwh) for at, kwh, _ in self.readings]
        added: list[tuple[datetime, float | None]] = [(at, 0.0) for at, *_ in self.readings[:1]]
        for (before_at, before, _), (at, kwh, _) in pairwise(self.readings):
            step = kwh - before if kwh >= before else kwh
            hours = (at - before_at).total_seconds() / 3600
            is_suspect = self.max_power_kw is not None and step > self.max_power_kw * hours
            added.append((at, None if is_suspect else step))
        return added


class World(NamedTuple):
    """All that figures follow from."""

    meters: dict[str, Device]
    vehicles: dict[str, Device]
    links: list[tuple[str, str, datetime, datetime | None]]

    @classmethod
    def now(cls) -> "World":
        """Return what is committed at this moment."""
        return cls(_devices("meter", "ac", "NULL"), _devices("vehicle", "dc"), _links())


def figures(
    world: World,
    vehicle_id: str,
    start: datetime,
    end: datetime,
    around: tuple[datetime, datetime] | None = None,
) -> dict[str, object]:
    """Return the figures of a vehicle over [start, end), by their names on the wire.

    A piece of a window takes the shares that the window has `around` it: of a shared meter those of
    the same vehicles within the hour and the window, of all devices without a link the window's.
    """
    window_start, window_end = around or (start, end)
    meters, vehicles = (
        {i: Sums(d) for i, d in of.items()} for of in (world.meters, world.vehicles)
    )
    own = vehicles[vehicle_id]
    overlapping = [
        link
        for link in world.links
        if link[2] < window_end and (link[3] is None or link[3] > window_start)
    ]
    ac = compared_dc = 0.0
    source, readings, suspects = "none", 0, own.suspects(start, end)
    if any(vehicle == vehicle_id for vehicle, *_ in overlapping):
        source = "linked"
        for whole_start, whole_end, meter, beside in _shares(
            vehicle_id, window_start, window_end, overlapping
        ):
            dc = {vehicle: vehicles[vehicle].kwh(whole_start, whole_end) for vehicle in beside}
            part = dc[vehicle_id] / sum(dc.values()) if sum(dc.values()) > 0 else 1 / len(dc)
            piece_start, piece_end = max(whole_start, start), min(whole_end, end)
            if piece_start >= piece_end:
                continue
            source = "shared" if len(beside) > 1 else source
            ac += part * meters[meter].kwh(piece_start, piece_end)
            compared_dc += own.kwh(piece_start, piece_end)
            readings += meters[meter].count(piece_start, piece_end)
            suspects += meters[meter].suspects(piece_start, piece_end)
    elif own.count(start, end):
        free = [m for i, m in meters.items() if i not in {link[1] for link in overlapping}]
        alike = [v for i, v in vehicles.items() if i not in {link[0] for link in overlapping}]
        all_readings = sum(meter.count(window_start, window_end) for meter in free)
        if all_readings:
            source, readings, compared_dc = "fleet", all_readings, own.kwh(start, end)
            all_dc = sum(vehicle.kwh(window_start, window_end) for vehicle in alike)
            all_ac = sum(meter.kwh(window_start, window_end) for meter in free)
            ac = all_ac * compared_dc / all_dc if compared_dc else 0.0
    temps = own.temps(start, end)
    return {
        "energyConsumedAc": ac,
        "energyDeliveredDc": own.kwh(start, end),
        "efficiencyRatio": 100 * compared_dc / ac if ac > 0 else None,
        "averageBatteryTemp": sum(temps) / len(temps) if temps else None,
        "acSource": source,
        "dataPoints": {"vehicle": own.count(start, end), "meter": readings},
        "suspectSteps": suspects,
    }


class Sums:
    """Sums of one device over any span."""

    def __init__(self, device: Device) -> None:
        self._steps = device.steps()
        self._times = [at for at, _ in self._steps]
        self._temps = [temp for *_, temp in device.readings]

    def _between(self, start: datetime, end: datetime) -> slice:
        return slice(bisect_left(self._times, start), bisect_left(self._times, end))

    def kwh(self, start: datetime, end: datetime) -> float:
        return sum(step or 0.0 for _, step in self._steps[self._between(start, end)])

    def count(self, start: datetime, end: datetime) -> int:
        return len(self._steps[self._between(start, end)])

    def suspects(self, start: datetime, end: datetime) -> int:
        return sum(step is None for _, step in self._steps[self._between(start, end)])

    def temps(self, start: datetime, end: datetime) -> list[float]:
        return [temp for temp in self._temps[self._between(start, end)] if temp is not None]


def _shares(
    vehicle_id: str,
    start: datetime,
    end: datetime,
    links: list[tuple[str, str, datetime, datetime | None]],
) -> Iterable[tuple[datetime, datetime, str, list[str]]]:
    """Yield the pieces of a vehicle's links, with the meter and all vehicles linked to it."""
    for vehicle, meter, begins, ends in links:
        if vehicle != vehicle_id:
            continue
        at_meter = [link for link in links if link[1] == meter]
        for piece in _pieces(max(begins, start), min(ends or end, end), at_meter):
            beside = [
                other
                for other, _, other_begins, other_ends in at_meter
                if other_begins <= piece[0] and (other_ends is None or piece[1] <= other_ends)
            ]
            yield *piece, meter, beside


def _pieces(
    start: datetime, end: datetime, links: Iterable[tuple[str, str, datetime, datetime | None]]
) -> Iterable[tuple[datetime, datetime]]:
    """Cut [start, end) at whole hours and wherever a link begins or ends."""
    bounds = {start, end}
    hour = start.replace(minute=0, second=0, microsecond=0)
    while (hour := hour + timedelta(hours=1)) < end:
        bounds.add(hour)
    bounds |= {at for *_, begins, ends in links for at in (begins, ends) if at and start < at < end}
    return pairwise(sorted(bounds))


def _devices(kind: str, current: str, temp: str = "battery_temp_celsius") -> dict[str, Device]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {kind}_id, energy_register, max_power_kw FROM fleet_{kind}")
        devices = {row[0]: Device(row[1], row[2], []) for row in cursor.fetchall()}
        cursor.execute(
            f"""
            SELECT {kind}_id, measured_at, energy_{current}_kwh, {temp}
            FROM ingestion_{kind}reading
            ORDER BY measured_at, received_at, id
            """
        )
        for device_id, *reading in cursor.fetchall():
            counted = devices[device_id].readings
            if counted and counted[-1][0] == reading[0]:
                counted.pop()
            counted.append(tuple(reading))
    return devices


def _links() -> list[tuple[str, str, datetime, datetime | None]]:
    """Return all links, each as long as the vehicle stayed at the meter."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT vehicle_id, meter_id, lower(valid_during), upper(valid_during) "
            "FROM fleet_vehiclemeterlink ORDER BY vehicle_id, valid_during"
        )
        rows = cursor.fetchall()
    links: list[tuple[str, str, datetime, datetime | None]] = []
    for vehicle, meter, begins, ends in rows:
        if links and links[-1][:2] == (vehicle, meter) and links[-1][3] == begins:
            begins = links.pop()[2]
        links.append((vehicle, meter, begins, ends))
    return links
