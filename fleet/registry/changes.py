"""Change the settings of devices: the only writer of many at once.

The API, CSV files and the console's lists use it. It checks each device with the model's own
`clean`, as the console's form does.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet

from fleet.models import Meter, Site, Vehicle
from fleet.registers import REGISTER_FIELDS, announce_register
from fleet.registration import defaults_of

SETTINGS: Final = (
    "name",
    "external_id",
    "site",
    "energy_register",
    "scale",
    "max_power_kw",
    "interval_seconds",
    "rolls_over_at_kwh",
    "clock_offset_seconds",
    "retired_at",
)


class InvalidSettings(Exception):
    """The settings do not fit a device; nothing was changed.

    `errors` are those of the first such device, by field; `more` is how many others have any.
    """

    def __init__(self, device: Meter | Vehicle, errors: ValidationError, more: int) -> None:
        super().__init__(f"{device.pk}: {' '.join(errors.messages)}")
        self.device = device
        self.errors: dict[str, list[ValidationError]] = errors.error_dict
        self.more = more

    @property
    def whose(self) -> str:
        """Return which devices the errors are of, in words."""
        more = f" and {self.more:,} other{'s' if self.more > 1 else ''}" if self.more else ""
        return f"{self.device.pk}{more}"


class MayNotMove(Exception):
    """A device would move to another site, which the caller may not do; nothing was changed."""


class Changed(NamedTuple):
    """A device as it is now, and its former values of the fields that have changed."""

    device: Meter | Vehicle
    before: dict[str, Any]


class Outcome(NamedTuple):
    """How many devices were selected, and those of them that have changed."""

    matched: int
    changed: list[Changed]


def change_devices(
    devices: QuerySet[Any],
    values: Mapping[str, Any],
    *,
    apply_defaults: bool = False,
    may_move: bool = True,
) -> Outcome:
    """Give `devices` these values by field of `SETTINGS`, in one transaction.

    With `apply_defaults`, they also get the energy settings of new devices at the site in
    `values`, except for those that `values` has itself. The number of statements is the same for
    any number of devices.
    Errors: `InvalidSettings`, `MayNotMove`, `IntegrityError` for an external id that is taken.
    """
    model = devices.model
    with transaction.atomic():
        if apply_defaults:
            site: Site | None = values.get("site")
            values = {**defaults_of(model, site.pk if site else None), **values}
        # In the order of ids, so that two changes can't deadlock.
        locked = devices.select_related("site").select_for_update(of=("self",), no_key=True)
        found = list(locked.order_by("pk"))
        changed = [change for device in found if (change := change_of(device, values)).before]
        if not may_move and any("site" in change.before for change in changed):
            raise MayNotMove
        _require_valid(change.device for change in changed)
        ids = [change.device.pk for change in changed]
        model.objects.filter(pk__in=ids).update(**values)
        announce_changed(changed)
    return Outcome(len(found), changed)


def announce_changed(changed: Sequence[Changed]) -> None:
    """Announce the devices whose energy is counted otherwise now."""
    announce_register(
        *(change.device for change in changed if REGISTER_FIELDS.intersection(change.before))
    )


def change_of(device: Meter | Vehicle, values: Mapping[str, Any]) -> Changed:
    """Set the values of `device` without saving it, and return what has changed."""
    before = {name: old for name, new in values.items() if (old := getattr(device, name)) != new}
    for name in before:
        setattr(device, name, values[name])
    return Changed(device, before)


def _require_valid(devices: Any) -> None:
    """Errors: `InvalidSettings`."""
    invalid: list[tuple[Meter | Vehicle, ValidationError]] = []
    for device in devices:
        try:
            device.clean()
        except ValidationError as error:
            invalid.append((device, error))
    if invalid:
        raise InvalidSettings(*invalid[0], more=len(invalid) - 1)
