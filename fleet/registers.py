"""Change what the energy in a device's readings means."""

from django.db import transaction
from django.dispatch import Signal

from fleet.models import Meter, Vehicle

# What of a device decides how its readings are to be read.
REGISTER_FIELDS = frozenset({"energy_register", "max_power_kw"})

# Sent after the commit, with `device`. All that was derived from its readings is stale.
register_changed = Signal()


def announce_register(device: Meter | Vehicle) -> None:
    """Let those who derive figures know, once this transaction is committed, of a new register."""
    transaction.on_commit(lambda: register_changed.send(type(device), device=device))
