"""Routes of analytics below `/v1`."""

from django.urls import path

from analytics.views import PerformanceViewSet

urlpatterns = [
    path(
        "analytics/performance/<device_id:vehicle_id>",
        PerformanceViewSet.as_view({"get": "retrieve"}),
    ),
]
