"""What Django's admin is made of; each page is a module of `energy_engine.console`."""

from energy_engine.console import (
    audit,
    devices,
    faults,
    jobs,
    keys,
    links,
    people,
    sites,
    thresholds,
    webhooks,
)

__all__ = [
    "audit",
    "devices",
    "faults",
    "jobs",
    "keys",
    "links",
    "lock_outs",
    "people",
    "sites",
    "thresholds",
    "webhooks",
]
