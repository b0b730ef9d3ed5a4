from django.apps import AppConfig
from django.conf import settings
from django.core.cache import close_caches
from django.core.handlers.base import reset_urlconf
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries


class EnergyEngineConfig(AppConfig):
    name = "energy_engine"
    verbose_name = "Energy Ingestion Engine"

    def ready(self) -> None:
        from energy_engine import checks  # noqa: F401 -- registers them

        # Connections go back to the pool at the end of a request, so none is left to check when the
        # next one begins; the log of queries is only kept under DEBUG.
        request_started.disconnect(close_old_connections)
        if not settings.DEBUG:
            request_started.disconnect(reset_queries)
        # The connections to Redis stay open in any case, and each request sets its own routes.
        request_finished.disconnect(close_caches)
        request_finished.disconnect(reset_urlconf)
