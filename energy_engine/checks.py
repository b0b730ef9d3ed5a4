"""What must hold before the engine serves anybody: `manage.py check`, and every start."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from energy_engine import environment
from ingestion.history.retention import plan


@register("access")
def access_is_open_on_loopback_only(**_: Any) -> list[CheckMessage]:
    """Refuse an API that needs no key, unless nobody but this machine can reach it."""
    host = environment.read("HOST") if settings.DEBUG else environment.launched_on()
    if settings.API_AUTH == "required" or host in environment.LOOPBACK_HOSTS:
        return []
    return [
        Error(
            "API_AUTH=open lets anybody write and read",
            hint="Set API_AUTH=required, and make keys with "
            f"`{environment.command('api_key create')}`; open is for `make run` or DEBUG, "
            "with HOST on a loopback address",
            id="energy_engine.E001",
        )
    ]


@register("retention")
def history_goes_only_when_it_can(**_: Any) -> list[CheckMessage]:
    """Refuse a retention that would take readings that are still accepted, or has no archive."""
    wrong = plan.misconfigured()
    hint = "See `Retention and archive` in docs/operations.md; RETENTION_DAYS=0 keeps all history"
    return [Error(wrong, hint=hint, id="energy_engine.E010")] if wrong else []
