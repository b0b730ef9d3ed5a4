"""Register devices that are not in the registry yet, with the defaults of their site.

Readings register their devices themselves, in the statement that records them: see
`ingestion.writer`. Here is everything else that does.
"""

from collections.abc import Collection
from typing import Any

from django.conf import settings

from fleet.models import DeviceDefaults, DeviceKind, EnergySettings, Meter, Vehicle

ENERGY_FIELDS = tuple(field.name for field in EnergySettings._meta.fields)


def registers_unknown() -> bool:
    """Return whether unknown devices are registered (INGEST_UNKNOWN_DEVICES)."""
    return bool(settings.INGEST_UNKNOWN_DEVICES == "register")


def defaults_of(model: type[Meter | Vehicle], site_id: int | None = None) -> dict[str, Any]:
    """Return the energy settings of a new device, by field; at most one statement.

    They are those of its site, else those of all other sites, else those of the model.
    """
    rows = {row.site_id: row for row in DeviceDefaults.objects.filter(kind=_kind_of(model))}
    found = rows.get(site_id) or rows.get(None) or DeviceDefaults()
    return {name: getattr(found, name) for name in ENERGY_FIELDS}


def register(
    model: type[Meter | Vehicle], device_ids: Collection[str], site_id: int | None = None
) -> None:
    """Register those of `device_ids` that are unknown; two statements."""
    values = defaults_of(model, site_id) | {"site_id": site_id}
    # In the order of ids, so that two that register the same devices can't deadlock.
    new = [model(pk=device_id, **values) for device_id in sorted(device_ids)]
    model.objects.bulk_create(new, ignore_conflicts=True)


def join_site(
    model: type[Meter | Vehicle], device_ids: Collection[str], site_id: int
) -> frozenset[str]:
    """Return those of `device_ids` that are at the site, after registering the unknown ones there.

    Empty if the site has no defaults for this kind: only with them do devices register themselves
    at it. A known device of another site, or of none, stays where it is.
    """
    if not DeviceDefaults.objects.filter(kind=_kind_of(model), site=site_id).exists():
        return frozenset()
    known = dict(model.objects.filter(pk__in=device_ids).values_list("pk", "site_id"))
    if unknown := {*device_ids} - known.keys():
        register(model, unknown, site_id)
        known |= model.objects.filter(pk__in=unknown).values_list("pk", "site_id")
    return frozenset(device_id for device_id, at in known.items() if at == site_id)


def _kind_of(model: type[Meter | Vehicle]) -> DeviceKind:
    return DeviceKind.METER if issubclass(model, Meter) else DeviceKind.VEHICLE
