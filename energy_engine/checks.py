"""Checks of the configuration that run at every start and in `manage.py check`."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from energy_engine import environment
from ingestion.history.retention import plan


@register("access")
def access_is_open_on_loopback_only(**_: Any) -> list[CheckMessage]:
    """Refuse an API without keys, unless only this machine can reach it."""
    host = environment.read("HOST") if settings.DEBUG else environment.launched_on()
    if settings.API_AUTH == "required" or host in environment.LOOPBACK_HOSTS:
        return []
    return [
        Error(
            "API_AUTH=open lets anyone read and write",
            hint="Set API_AUTH=required, and create keys with "
            f"`{environment.command('api_key create')}`. open works only with HOST on a loopback "
            "address, under `make run` or with DEBUG",
            id="energy_engine.E001",
        )
    ]


@register("retention")
def history_goes_only_when_it_can(**_: Any) -> list[CheckMessage]:
    """Refuse a retention that would drop readings still accepted, or that has no archive."""
    wrong = plan.misconfigured()
    hint = "See Retention and archive in docs/operations.md. RETENTION_DAYS=0 keeps all history"
    return [Error(wrong, hint=hint, id="energy_engine.E010")] if wrong else []
