"""Registers the pages of Django's admin; each is a module of `energy_engine.console`."""

from energy_engine.console import (
    audit,
    faults,
    hints,
    jobs,
    keys,
    links,
    people,
    sites,
    tariffs,
    thresholds,
    webhooks,
)
from energy_engine.console.devices import lists as devices
from energy_engine.console.signing_in import lock_out_page

__all__ = [
    "audit",
    "devices",
    "faults",
    "hints",
    "jobs",
    "keys",
    "links",
    "lock_out_page",
    "people",
    "sites",
    "tariffs",
    "thresholds",
    "webhooks",
]
