"""Announce a change of a device's energy register; the caller saves the change itself."""

from django.db import transaction
from django.dispatch import Signal

from fleet.models import Meter, Vehicle

# The fields of a device that decide what the energy in its readings means.
REGISTER_FIELDS = frozenset(
    {"energy_register", "scale", "max_power_kw", "interval_seconds", "rolls_over_at_kwh"}
)

# Sent after the commit, with `device`. Everything derived from its readings is stale.
register_changed = Signal()


def announce_register(device: Meter | Vehicle) -> None:
    """Send `register_changed` once the current transaction is committed."""
    transaction.on_commit(lambda: register_changed.send(type(device), device=device))
