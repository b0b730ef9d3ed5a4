"""The depots of a simulated fleet, and what a kilowatt-hour costs there.

Settings and tariffs are as the API takes them.
"""

from typing import Any, Final, NamedTuple

from ingestion.simulation.scenario import Scenario


class Depot(NamedTuple):
    """A site, its only tariff, and the devices there."""

    name: str
    settings: dict[str, Any]
    tariff: dict[str, Any]
    meter_ids: list[str]
    vehicle_ids: list[str]


_EVERY_DAY: Final = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_BY_NIGHT: Final = {"weekdays": _EVERY_DAY, "start": "22:00", "end": "06:00", "pricePerKwh": 0.22}
_SITES: Final = (
    (
        {"name": "SIM North", "timeZone": "Europe/Berlin", "currency": "EUR"},
        {"kind": "time_of_use", "pricePerKwh": 0.34, "rules": [_BY_NIGHT]},
    ),
    (
        {"name": "SIM South", "timeZone": "Europe/Madrid", "currency": "EUR"},
        {"kind": "fixed", "pricePerKwh": 0.29},
    ),
)
MOST_SITES: Final = len(_SITES)


def depots(scenario: Scenario, number: int) -> list[Depot]:
    """Return so many depots, at most `MOST_SITES`, with the chargers in turn.

    A vehicle is where its charger is; a charger without a vehicle is at none.
    """
    found = [
        Depot(settings["name"], settings, tariff, [], []) for settings, tariff in _SITES[:number]
    ]
    place_of = {}
    for place, meter_id in enumerate(scenario.meter_ids[: scenario.vehicles]):
        if found:
            place_of[meter_id] = found[place % number]
            place_of[meter_id].meter_ids.append(meter_id)
    for pairing in scenario.pairings:
        if found:
            place_of[pairing.meter_id].vehicle_ids.append(pairing.vehicle_id)
    return [depot for depot in found if depot.meter_ids]
