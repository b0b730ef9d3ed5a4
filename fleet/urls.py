"""Routes of the fleet below `/v1`."""

from typing import Any

from django.urls import path
from rest_framework.routers import SimpleRouter

from fleet.access.views import KeyViewSet
from fleet.registry.tariff_views import PriceViewSet, TariffViewSet
from fleet.registry.views import MeterViewSet, SiteViewSet, VehicleViewSet
from fleet.views import LinkViewSet, MeterStatusViewSet, VehicleStatusViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("keys", KeyViewSet, "key")
router.register("sites", SiteViewSet, "site")
router.register("status/meter", MeterStatusViewSet, "meter-status")
router.register("status/vehicle", VehicleStatusViewSet, "vehicle-status")

_MANY: Any = {"get": "list", "patch": "bulk_update"}
_ONE: Any = {"get": "retrieve", "patch": "partial_update"}
urlpatterns = [
    # A router has neither PUT nor PATCH on a collection.
    path("links", LinkViewSet.as_view({"get": "list", "put": "update"})),
    path("links/<device_id:vehicle_id>", LinkViewSet.as_view({"delete": "destroy"})),
    path("sites/<int:site_id>/prices", PriceViewSet.as_view({"get": "list", "put": "update"})),
    path("sites/<int:site_id>/tariffs", TariffViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "sites/<int:site_id>/tariffs/<int:tariff_id>",
        TariffViewSet.as_view({"put": "update", "delete": "destroy"}),
    ),
    path("meters", MeterViewSet.as_view(_MANY)),
    path("meters/<device_id:meter_id>", MeterViewSet.as_view(_ONE)),
    path("vehicles", VehicleViewSet.as_view(_MANY)),
    path("vehicles/<device_id:vehicle_id>", VehicleViewSet.as_view(_ONE)),
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
