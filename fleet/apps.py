from django.apps import AppConfig
from django.urls import register_converter
from django.urls.converters import StringConverter

from fleet.device_ids import DEVICE_ID_PATTERN


class DeviceIdConverter(StringConverter):
    """`<device_id:…>` in a route; a path with a malformed id is an unknown path (404)."""

    regex = DEVICE_ID_PATTERN


class FleetConfig(AppConfig):
    name = "fleet"

    def ready(self) -> None:
        register_converter(DeviceIdConverter, "device_id")
