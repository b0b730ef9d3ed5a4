"""Routes of the fleet below `/v1`."""

from django.urls import path

from fleet.access.views import KeyViewSet
from fleet.views import LinkViewSet, StatusViewSet

_METER = StatusViewSet.as_view({"get": "meter"})
_VEHICLE = StatusViewSet.as_view({"get": "vehicle"})

urlpatterns = [
    path("links", LinkViewSet.as_view({"get": "page", "put": "update"})),
    path("links/<device_id:vehicle_id>", LinkViewSet.as_view({"delete": "destroy"})),
    path("keys", KeyViewSet.as_view({"get": "page", "post": "create"})),
    path("keys/<slug:prefix>", KeyViewSet.as_view({"delete": "destroy"})),
    path("keys/<slug:prefix>/rotate", KeyViewSet.as_view({"post": "rotate"})),
    path("status/meter/<device_id:meter_id>", _METER),
    path("status/vehicle/<device_id:vehicle_id>", _VEHICLE),
    path("analytics/meter/<device_id:meter_id>/live", _METER),
    path("analytics/vehicle/<device_id:vehicle_id>/live", _VEHICLE),
]
