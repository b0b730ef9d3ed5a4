"""Routes of analytics below `/v1`."""

from django.urls import path

from analytics.alerting.views import FaultViewSet
from analytics.figures.views import PerformanceViewSet

_one = "analytics/performance/<device_id:vehicle_id>"

urlpatterns = [
    path("analytics/performance", PerformanceViewSet.as_view({"get": "page"})),
    path(_one, PerformanceViewSet.as_view({"get": "retrieve"})),
    path(f"{_one}/series", PerformanceViewSet.as_view({"get": "series"})),
    path(f"{_one}/explain", PerformanceViewSet.as_view({"get": "explain"})),
    path("analytics/fleet", PerformanceViewSet.as_view({"get": "totals"})),
    path("faults", FaultViewSet.as_view({"get": "page"})),
    path("faults/<int:fault_id>", FaultViewSet.as_view({"get": "retrieve"})),
]
