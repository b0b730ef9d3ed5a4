from django.apps import AppConfig


class AnalyticsConfig(AppConfig):
    name = "analytics"

    def ready(self) -> None:
        from analytics import cache
        from fleet.links import links_changed

        links_changed.connect(cache.drop, dispatch_uid="drop cached performance")
