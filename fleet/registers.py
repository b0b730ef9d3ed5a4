"""Announce a change of devices' energy registers; the caller saves the change itself."""

from functools import partial

from django.db import transaction
from django.dispatch import Signal

from fleet.models import Meter, Vehicle

# The fields of a device that decide what the energy in its readings means.
REGISTER_FIELDS = frozenset(
    {"energy_register", "scale", "max_power_kw", "interval_seconds", "rolls_over_at_kwh"}
)

# Sent by the model after the commit, with `device_ids`. Everything derived from the readings of
# these devices is stale.
register_changed = Signal()


def announce_register(*devices: Meter | Vehicle) -> None:
    """Send `register_changed` once for each kind, as soon as the transaction is committed."""
    for model in (Meter, Vehicle):
        if ids := [device.pk for device in devices if isinstance(device, model)]:
            transaction.on_commit(partial(register_changed.send, model, device_ids=ids))
