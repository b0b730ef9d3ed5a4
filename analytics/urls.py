"""Routes of analytics below `/v1`."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from analytics.alerting.views import FaultViewSet
from analytics.figures.views import PerformanceViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("analytics/performance", PerformanceViewSet, "performance")
router.register("faults", FaultViewSet, "fault")

urlpatterns = [
    *router.urls,
    path("analytics/fleet", PerformanceViewSet.as_view({"get": "totals"})),
]
