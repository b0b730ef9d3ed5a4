from django.apps import AppConfig


class AnalyticsConfig(AppConfig):
    name = "analytics"

    def ready(self) -> None:
        from analytics.figures import cache
        from analytics.rollups import hourly
        from fleet.links import links_changed
        from fleet.registers import register_changed

        links_changed.connect(cache.drop_after_link, dispatch_uid="drop cached performance")
        register_changed.connect(cache.drop_after_register, dispatch_uid="drop cached performance")
        links_changed.connect(hourly.mark_after_link, dispatch_uid="share again")
