"""How a figure was calculated, so that an analyst can check it by hand."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from analytics.figures.accounts import Account, Part
from analytics.figures.curve import Step
from analytics.figures.energy import Energy, Span, vehicle_energies
from analytics.figures.performance import Performance, performance, without_noise
from analytics.sql import STATEMENTS
from fleet.stores.statements import Statement

_meter_deliveries = Statement(STATEMENTS / "meter_deliveries.sql")
_vehicle_deliveries = Statement(STATEMENTS / "vehicle_deliveries.sql")


class CutStep(msgspec.Struct, kw_only=True):
    """A step that a bound of the span cuts: its energy, and how much of it lies in the span."""

    start: datetime
    end: datetime
    energy_kwh: float = msgspec.field(name="energyKwh")
    energy_in_span_kwh: float = msgspec.field(name="energyInSpanKwh")


class Counted(msgspec.Struct, kw_only=True):
    """Where the energy of a device over a span comes from, and which deliveries count.

    `deliveries` = `counted` + `repeats` + `corrected`: a repeat has the same values as the delivery
    that counts; a corrected delivery had other values. `firstStep` and `lastStep` are the steps
    that the bounds of the span cut; null where none is cut.
    """

    device_id: str = msgspec.field(name="deviceId")
    start: datetime
    end: datetime
    energy_kwh: float = msgspec.field(name="energyKwh")
    hours_from_rollup: int = msgspec.field(name="hoursFromRollup")
    hours_from_history: float = msgspec.field(name="hoursFromHistory")
    deliveries: int
    counted: int
    repeats: int
    corrected: int
    suspect_steps: int = msgspec.field(name="suspectSteps")
    cadence_seconds: float | None = msgspec.field(name="cadenceSeconds")
    first_step: CutStep | None = msgspec.field(name="firstStep")
    last_step: CutStep | None = msgspec.field(name="lastStep")


class Split(msgspec.Struct, kw_only=True):
    """A span of a meter, the vehicles linked to it, and the vehicle's share of its AC.

    Each step of the meter is split by the DC that each vehicle took meanwhile; if none took any,
    equally. The share is what this comes to over the whole span.
    """

    meter_id: str = msgspec.field(name="meterId")
    start: datetime
    end: datetime
    vehicle_ids: list[str] = msgspec.field(name="vehicleIds")
    meter_ac_kwh: float = msgspec.field(name="meterEnergyAc")
    share: float
    energy_ac_kwh: float = msgspec.field(name="energyConsumedAc")
    energy_dc_kwh: float = msgspec.field(name="energyDeliveredDc")
    vehicles_dc_kwh: float = msgspec.field(name="vehiclesEnergyDc")


class FleetShare(msgspec.Struct, kw_only=True):
    """AC and DC of all devices without a link: vehicles without a link share this AC."""

    energy_ac_kwh: float = msgspec.field(name="energyConsumedAc")
    energy_dc_kwh: float = msgspec.field(name="energyDeliveredDc")


class Explanation(msgspec.Struct, kw_only=True):
    """A figure, and everything that it was calculated from."""

    figure: Performance
    formula: str
    vehicle: Counted
    meters: list[Counted]
    splits: list[Split]
    fleet: FleetShare | None


def explanation(account: Account) -> Explanation:
    """Return how the figure of `account` was calculated; two statements, over history itself."""
    figure = performance(account)
    (vehicle,) = _counted(_vehicle_deliveries, [(account.vehicle, account.dc)])
    meters = _counted(_meter_deliveries, [(part.slice.meter, part.meter) for part in account.parts])
    fleet = None
    if account.fleet:
        fleet = FleetShare(
            energy_ac_kwh=without_noise(account.fleet.energy_ac_kwh),
            energy_dc_kwh=without_noise(account.fleet.energy_dc_kwh),
        )
    return Explanation(
        figure=figure,
        formula=_formula(figure, account),
        vehicle=vehicle,
        meters=meters,
        splits=_splits(account),
        fleet=fleet,
    )


def _splits(account: Account) -> list[Split]:
    sharers = {
        part.slice: [part.slice.of(vehicle_id) for vehicle_id in sorted(part.slice.vehicle_ids)]
        for part in account.parts
        if part.slice.is_shared
    }
    dc = vehicle_energies(span for spans in sharers.values() for span in spans)
    return [
        _split(
            part,
            sum(dc[span].energy_kwh for span in sharers[part.slice] if span in dc)
            if part.slice.is_shared
            else part.energy_dc_kwh,
        )
        for part in account.parts
    ]


def _split(part: Part, vehicles_dc_kwh: float) -> Split:
    meter = part.slice.meter
    whole_kwh = part.meter.energy_kwh
    return Split(
        meter_id=meter.device_id,
        start=meter.starts_at,
        end=meter.ends_at,
        vehicle_ids=sorted(part.slice.vehicle_ids),
        # Not rounded: they add up to the figure.
        meter_ac_kwh=whole_kwh,
        share=part.energy_ac_kwh / whole_kwh if whole_kwh else 1 / len(part.slice.vehicle_ids),
        energy_ac_kwh=part.energy_ac_kwh,
        energy_dc_kwh=part.energy_dc_kwh,
        vehicles_dc_kwh=vehicles_dc_kwh,
    )


def _cut_step(step: Step | None, span: Span) -> CutStep | None:
    if step is None or step.energy_kwh is None:
        return None
    overlap = min(step.ends_at, span.ends_at) - max(step.starts_at, span.starts_at)
    part = overlap / (step.ends_at - step.starts_at)
    return CutStep(
        start=step.starts_at,
        end=step.ends_at,
        energy_kwh=without_noise(step.energy_kwh),
        energy_in_span_kwh=without_noise(step.energy_kwh * part),
    )


def _formula(figure: Performance, account: Account) -> str:
    if figure.efficiency_percent is None:
        return "efficiencyRatio = null: there is no AC to compare with"
    compared_dc_kwh = (
        sum(part.energy_dc_kwh for part in account.parts) if account.parts else figure.energy_dc_kwh
    )
    return (
        "efficiencyRatio = 100 · DC / AC"
        f" = 100 · {compared_dc_kwh:.9g} kWh / {figure.energy_ac_kwh:.9g} kWh"
        f" = {figure.efficiency_percent:.2f} %"
    )


def _counted(statement: Statement, spans: Sequence[tuple[Span, Energy]]) -> list[Counted]:
    rows = statement.rows(
        {
            "device_ids": [span.device_id for span, _ in spans],
            "starts_at": [span.starts_at for span, _ in spans],
            "ends_at": [span.ends_at for span, _ in spans],
        }
    )
    return [
        Counted(
            device_id=span.device_id,
            start=span.starts_at,
            end=span.ends_at,
            energy_kwh=without_noise(energy.energy_kwh),
            hours_from_rollup=energy.hours_rolled_up,
            hours_from_history=round(span.seconds / 3600 - energy.hours_rolled_up, 6),
            deliveries=row.deliveries,
            counted=row.counted,
            repeats=row.deliveries - row.counted - row.corrected,
            corrected=row.corrected,
            suspect_steps=energy.suspect_steps,
            cadence_seconds=energy.cadence_seconds,
            first_step=_cut_step(energy.first_step, span),
            last_step=_cut_step(energy.last_step, span),
        )
        for (span, energy), row in zip(spans, rows, strict=True)
    ]
