"""Routes of the fleet below `/v1`."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from fleet.access.views import KeyViewSet
from fleet.views import LinkViewSet, MeterStatusViewSet, VehicleStatusViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("keys", KeyViewSet, "key")
router.register("status/meter", MeterStatusViewSet, "meter-status")
router.register("status/vehicle", VehicleStatusViewSet, "vehicle-status")

urlpatterns = [
    # A router has no PUT on a collection.
    path("links", LinkViewSet.as_view({"get": "list", "put": "update"})),
    path("links/<device_id:vehicle_id>", LinkViewSet.as_view({"delete": "destroy"})),
    *router.urls,
    path(
        "analytics/meter/<device_id:meter_id>/live",
        MeterStatusViewSet.as_view({"get": "retrieve"}),
    ),
    path(
        "analytics/vehicle/<device_id:vehicle_id>/live",
        VehicleStatusViewSet.as_view({"get": "retrieve"}),
    ),
]
