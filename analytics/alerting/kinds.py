"""The kinds of faults: words, unit, thresholds and finder of each.

The API, the console, the thresholds and the tables of the docs read these records. A new kind needs
a record and a finder here, a `.sql` file, a code and a label in `FaultKind`, columns in
`FaultThresholds`, and a migration; `make docs` then writes the tables.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from django.conf import settings

from analytics.alerting.findings import Finding, Findings
from analytics.alerting.silence import find_silence, silence_last_week
from analytics.models import FaultKind, FaultThresholds
from analytics.sql import STATEMENTS
from fleet.stores.statements import Statement, from_row

# An older temperature says nothing about now.
TEMPERATURE_IS_KNOWN_FOR: Final = timedelta(hours=1)
# Nor does a snapshot of a vehicle that is overdue by more than this.
SNAPSHOT_MAY_BE_LATE: Final = timedelta(minutes=5)

_low_efficiency: Final = Statement(STATEMENTS / "low_efficiency.sql")
_low_efficiency_last_week: Final = Statement(STATEMENTS / "low_efficiency_last_week.sql")
_standby_losses: Final = Statement(STATEMENTS / "standby_losses.sql")
_slow_clocks: Final = Statement(STATEMENTS / "slow_clocks.sql")
_hot_batteries: Final = Statement(STATEMENTS / "hot_batteries.sql")
_hot_batteries_last_week: Final = Statement(STATEMENTS / "hot_batteries_last_week.sql")

# Given the time and the thresholds of sites without their own: what is bad or has a fault.
Finder = Callable[[datetime, FaultThresholds], Findings]
# How many faults the thresholds would have opened; for the span, see `thresholds.faults_last_week`.
Estimator = Callable[[Mapping[str, Any], FaultThresholds], Mapping[FaultKind, int]]


@dataclass(frozen=True, kw_only=True)
class KindRecord:
    """What is particular to a kind of fault.

    `{name}` in a text stands for the threshold of that name; `with_thresholds` fills it in.
    """

    kind: FaultKind
    # What is wrong, and what a fault's value measures.
    noun: str
    value: str
    # The unit of values in the API, and its symbol in the console.
    unit: str
    symbol: str
    # Its thresholds in the console: heading and cell of a column; in running text, a clause after
    # "A fault opens when", or else a sentence.
    heading: str
    rule: str
    clause: str = ""
    sentence: str = ""
    # The section of the form that edits its thresholds; several kinds may share one.
    fieldset: str
    # Fields of `FaultThresholds`, and the one that orders the column.
    thresholds: tuple[str, ...]
    ordered_by: str
    # For the docs: when a fault opens, and when its cause is gone.
    opens: str
    gone: str
    # Several kinds may share a finder and an estimator. Without an estimator, the console's preview
    # leaves the kind out.
    find: Finder
    last_week: Estimator | None = None
    # Set if the first threshold opens a fault and the second closes it: where faults open.
    opens_on_side: Literal["below", "above"] | None = None
    # Whether a fault closed by hand opens again after `faults.HELD_BACK` while its cause lasts.
    reopens: bool = False
    # The smallest change of a value worth a write, given the value; and what the docs call it.
    least_change: Callable[[float], float] = lambda value: 0.5
    least_change_words: str

    def with_thresholds(self, text: str, thresholds: FaultThresholds) -> str:
        """Return one of its texts with the values of `thresholds`."""
        return text.format(**{name: getattr(thresholds, name) for name in self.thresholds})


# --- Low efficiency ---------------------------------------------------------------------------


def _snapshot_since(now: datetime) -> datetime:
    """Return how old the snapshot of a vehicle may be at `now`."""
    return now - 2 * timedelta(minutes=settings.FLEET_SNAPSHOT_MINUTES) - SNAPSHOT_MAY_BE_LATE


def _find_low_efficiency(now: datetime, thresholds: FaultThresholds) -> Findings:
    rows = _low_efficiency.rows(
        {
            "since": _snapshot_since(now),
            "opens": thresholds.efficiency_opens_percent,
            "closes": thresholds.efficiency_closes_percent,
        }
    )
    return Findings([from_row(Finding, row) for row in rows], [])


def _efficiency_last_week(
    span: Mapping[str, Any], thresholds: FaultThresholds
) -> dict[FaultKind, int]:
    (row,) = _low_efficiency_last_week.rows(
        {
            **span,
            "opens": thresholds.efficiency_opens_percent,
            "closes": thresholds.efficiency_closes_percent,
            "standby_opens": thresholds.standby_opens_kwh,
            "standby_closes": thresholds.standby_closes_kwh,
            "min_energy_kwh": settings.MIN_ENERGY_KWH,
            "min_coverage": settings.MIN_COVERAGE,
        }
    )
    return {
        FaultKind.LOW_EFFICIENCY: row.low_efficiencies,
        FaultKind.STANDBY_LOSS: row.standby_losses,
    }


_LOW_EFFICIENCY: Final = KindRecord(
    kind=FaultKind.LOW_EFFICIENCY,
    noun="low efficiency",
    value="efficiency of the last 24 hours",
    unit="percent",
    symbol="%",
    heading="Efficiency",
    rule="below {efficiency_opens_percent:g} %, closes at {efficiency_closes_percent:g} %",
    clause="efficiency is below {efficiency_opens_percent:g} % "
    "(closes at {efficiency_closes_percent:g} %)",
    fieldset="Efficiency",
    thresholds=("efficiency_opens_percent", "efficiency_closes_percent"),
    ordered_by="efficiency_opens_percent",
    opens="efficiency of the last 24 hours below {efficiency_opens_percent:g} %",
    gone="at {efficiency_closes_percent:g} % or above",
    find=_find_low_efficiency,
    last_week=_efficiency_last_week,
    opens_on_side="below",
    reopens=True,
    least_change_words="half a percent",
)


# --- Standby loss -----------------------------------------------------------------------------


def _find_standby_losses(now: datetime, thresholds: FaultThresholds) -> Findings:
    rows = _standby_losses.rows(
        {
            "since": _snapshot_since(now),
            "opens": thresholds.standby_opens_kwh,
            "closes": thresholds.standby_closes_kwh,
        }
    )
    return Findings([from_row(Finding, row) for row in rows], [])


_STANDBY_LOSS: Final = KindRecord(
    kind=FaultKind.STANDBY_LOSS,
    noun="standby loss",
    value="AC of the last 24 hours without any DC",
    unit="kwh",
    symbol="kWh",
    heading="Standby",
    rule="from {standby_opens_kwh:g} kWh, closes below {standby_closes_kwh:g} kWh",
    clause="a vehicle takes no DC in 24 hours while its meter draws {standby_opens_kwh:g} kWh or "
    "more (closes below {standby_closes_kwh:g} kWh)",
    fieldset="Standby loss",
    thresholds=("standby_opens_kwh", "standby_closes_kwh"),
    ordered_by="standby_opens_kwh",
    opens="no DC in the last 24 hours while the vehicle reported, and {standby_opens_kwh:g} kWh of "
    "AC or more",
    gone="below {standby_closes_kwh:g} kWh, or the vehicle charges",
    find=_find_standby_losses,
    last_week=_efficiency_last_week,
    opens_on_side="above",
    reopens=True,
    least_change=lambda kwh: kwh / 10,
    least_change_words="a tenth",
)


# --- Hot battery ------------------------------------------------------------------------------


def _find_hot_batteries(now: datetime, thresholds: FaultThresholds) -> Findings:
    rows = _hot_batteries.rows(
        {
            "since": now - TEMPERATURE_IS_KNOWN_FOR,
            "opens": thresholds.battery_opens_celsius,
            "closes": thresholds.battery_closes_celsius,
        }
    )
    return Findings([from_row(Finding, row) for row in rows], [])


def _hot_batteries_estimate(
    span: Mapping[str, Any], thresholds: FaultThresholds
) -> dict[FaultKind, int]:
    (row,) = _hot_batteries_last_week.rows(
        {
            **span,
            "opens": thresholds.battery_opens_celsius,
            "closes": thresholds.battery_closes_celsius,
        }
    )
    return {FaultKind.HOT_BATTERY: row.openings}


_HOT_BATTERY: Final = KindRecord(
    kind=FaultKind.HOT_BATTERY,
    noun="hot battery",
    value="temperature of the newest reading",
    unit="celsius",
    symbol="°C",
    heading="Battery",
    rule="above {battery_opens_celsius:g} °C, closes below {battery_closes_celsius:g} °C",
    clause="a battery is above {battery_opens_celsius:g} °C "
    "(closes below {battery_closes_celsius:g} °C)",
    fieldset="Battery",
    thresholds=("battery_opens_celsius", "battery_closes_celsius"),
    ordered_by="battery_opens_celsius",
    opens="temperature of the newest reading above {battery_opens_celsius:g} °C",
    gone="below {battery_closes_celsius:g} °C",
    find=_find_hot_batteries,
    last_week=_hot_batteries_estimate,
    opens_on_side="above",
    reopens=True,
    least_change_words="half a degree",
)


# --- Silence ----------------------------------------------------------------------------------

_SILENT: Final = KindRecord(
    kind=FaultKind.SILENT,
    noun="silent device",
    value="time since the latest delivery",
    unit="minutes",
    symbol="min",
    heading="Silence",
    rule="{silent_opens_cadences:g} intervals and {silent_opens_minutes:g} min",
    clause="a device is silent for {silent_opens_cadences:g} of its usual intervals, "
    "{silent_opens_minutes:g} minutes, and three times its longest pause of the last 14 days",
    fieldset="Silent devices",
    thresholds=("silent_opens_cadences", "silent_opens_minutes"),
    ordered_by="silent_opens_minutes",
    opens="nothing received for more than {silent_opens_cadences:g} of the device's usual "
    "intervals, more than {silent_opens_minutes:g} minutes, and more than three times its longest "
    "pause of the last 14 days",
    gone="a reading arrives",
    find=find_silence,
    last_week=silence_last_week,
    # Silence grows all the time.
    least_change=lambda minutes: minutes / 10,
    least_change_words="a tenth",
)
_SITE_SILENT: Final = KindRecord(
    kind=FaultKind.SITE_SILENT,
    noun="many silent devices of a site",
    value="silent devices of the site",
    unit="devices",
    symbol="devices",
    heading="Many devices silent",
    rule="{site_silent_devices} or more",
    sentence="{site_silent_devices} or more silent devices at one site open a single fault "
    "for the site.",
    fieldset="Silent devices",
    thresholds=("site_silent_devices",),
    ordered_by="site_silent_devices",
    opens="{site_silent_devices} devices of a site, and half of those whose cadence is known, "
    "are silent",
    gone="fewer than half as many are",
    find=find_silence,
    last_week=silence_last_week,
    least_change_words="one device",
)


# --- Clock ------------------------------------------------------------------------------------


def _find_slow_clocks(now: datetime, thresholds: FaultThresholds) -> Findings:
    rows = _slow_clocks.rows({"now": now, "hours": thresholds.clock_opens_hours})
    return Findings([from_row(Finding, row) for row in rows], [])


_CLOCK: Final = KindRecord(
    kind=FaultKind.CLOCK,
    noun="clock behind",
    value="how far its timestamps are behind their receipt",
    unit="hours",
    symbol="h",
    heading="Clock",
    rule="more than {clock_opens_hours:g} h behind",
    clause="a device's clock is more than {clock_opens_hours:g} hours behind",
    fieldset="Clock",
    thresholds=("clock_opens_hours",),
    ordered_by="clock_opens_hours",
    opens="for three hours, readings arrive more than {clock_opens_hours:g} hours after their "
    "timestamps, by the same time each",
    gone="a reading arrives that is newer",
    find=_find_slow_clocks,
    least_change_words="half an hour",
)


# --- All of them ------------------------------------------------------------------------------

# In the order of lists, forms and tables.
KINDS: Final[Mapping[str, KindRecord]] = {
    record.kind: record
    for record in (_LOW_EFFICIENCY, _STANDBY_LOSS, _HOT_BATTERY, _SILENT, _SITE_SILENT, _CLOCK)
}


def findings(now: datetime, thresholds: FaultThresholds) -> Findings:
    """Return all that is bad at `now`, and all that has a fault; each finder runs once."""
    found = [find(now, thresholds) for find in dict.fromkeys(kind.find for kind in KINDS.values())]
    return Findings(
        [finding for each in found for finding in each.alone],
        [finding for each in found for finding in each.of_sites],
    )
