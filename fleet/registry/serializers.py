"""Devices and sites as clients read and change them."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final

from django.db import transaction
from rest_framework import serializers

from fleet.models import EnergyRegister, Meter, Site, Vehicle
from fleet.registry.changes import SETTINGS
from fleet.registry.strict import (
    OneOfField,
    PriceField,
    Strict,
    StrictSerializer,
    TextField,
    YesOrNoField,
)
from fleet.tariffs.changes import set_only_price

_SITE_FIELDS: Final = ("id", "name", "time_zone", "tariff_per_kwh", "currency")
_ONLY_PRICE: Final = "price of its only tariff, if that is fixed and valid at all times; else null"


class _SiteNameField(serializers.SlugRelatedField):  # type: ignore[type-arg] # not at run time
    """The name of a site."""

    default_error_messages = {
        "does_not_exist": "must be the name of an existing site",
        "invalid": "must be a string",
    }

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class DeviceSettings(StrictSerializer):
    """The settings of a device; those that a request leaves out stay as they are."""

    site = _SiteNameField(
        slug_field="name",
        queryset=Site.objects.all(),
        allow_null=True,
        required=False,
        help_text="name of its site",
    )


class MeterSettings(DeviceSettings):
    """The settings of a meter; those that a request leaves out stay as they are."""

    fixed = ("meterId", "registeredAt")

    class Meta:
        model = Meter
        fields = SETTINGS


class VehicleSettings(DeviceSettings):
    """The settings of a vehicle; those that a request leaves out stay as they are."""

    fixed = ("vehicleId", "registeredAt")

    class Meta:
        model = Vehicle
        fields = SETTINGS


class _SiteOfFileField(serializers.Field):  # type: ignore[type-arg] # not generic at run time
    """The name of a site among those in the context, so that no row needs a query."""

    default_error_messages = _SiteNameField.default_error_messages

    def to_internal_value(self, data: Any) -> Any:
        if data not in self.context["sites"]:
            self.fail("does_not_exist")
        return self.context["sites"][data]


class _FileSettings(StrictSerializer):
    """The settings in a row of a file, whose reader checks what must be unique."""

    site = _SiteOfFileField(allow_null=True, required=False)

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        fields["externalId"].validators = []
        return fields


class MeterFileSettings(_FileSettings):
    class Meta:
        model = Meter
        fields: ClassVar[Any] = (*SETTINGS, "registered_at")
        extra_kwargs: ClassVar[Any] = {"registered_at": {"read_only": False, "required": False}}


class VehicleFileSettings(_FileSettings):
    class Meta:
        model = Vehicle
        fields: ClassVar[Any] = (*SETTINGS, "registered_at")
        extra_kwargs: ClassVar[Any] = {"registered_at": {"read_only": False, "required": False}}


class _DeviceRow(StrictSerializer):
    site: Any = serializers.SlugRelatedField(
        slug_field="name", read_only=True, allow_null=True, help_text="name of its site"
    )


class RegisteredMeter(_DeviceRow):
    """A meter of the registry and its settings."""

    class Meta:
        model = Meter
        fields: ClassVar[Any] = ("meter_id", *SETTINGS, "registered_at")
        read_only_fields = fields


class RegisteredVehicle(_DeviceRow):
    """A vehicle of the registry and its settings."""

    class Meta:
        model = Vehicle
        fields: ClassVar[Any] = ("vehicle_id", *SETTINGS, "registered_at")
        read_only_fields = fields


class SiteSettings(StrictSerializer):
    """The settings of a site."""

    fixed = ("id",)
    tariff_per_kwh = PriceField(required=False, allow_null=True, help_text=_ONLY_PRICE)

    class Meta:
        model = Site
        fields = _SITE_FIELDS[1:]

    def create(self, validated_data: dict[str, Any]) -> Site:
        return self._with_price(super().create, validated_data)

    def update(self, instance: Site, validated_data: dict[str, Any]) -> Site:
        return self._with_price(partial(super().update, instance), validated_data)

    def _with_price(self, save: Callable[[Any], Site], values: dict[str, Any]) -> Site:
        """Save a site, and its price if there is one among `values`. Errors: `HasOtherTariffs`."""
        price = {name: values.pop(name) for name in ["tariff_per_kwh"] if name in values}
        with transaction.atomic():
            site = save(values)
            for price_per_kwh in price.values():
                set_only_price(site, price_per_kwh)
        return site


class SiteRow(StrictSerializer):
    """A site and its settings."""

    tariff_per_kwh = PriceField(read_only=True, allow_null=True, help_text=_ONLY_PRICE)

    class Meta:
        model = Site
        fields = _SITE_FIELDS
        read_only_fields = _SITE_FIELDS


class Selection(Strict):
    """The devices that match all of these; without any, all devices."""

    site = TextField(allow_null=True, required=False, help_text="name of a site; null: no site")
    energyRegister = OneOfField(EnergyRegister.values, required=False)
    externalId = TextField(required=False)
    search = TextField(required=False, help_text="beginning of the id or the name")
    retired = YesOrNoField(required=False, help_text="whether they are out of service")


class _Bulk(Strict):
    ids = serializers.ListField(
        child=TextField(),
        allow_empty=False,
        required=False,
        help_text="ids of devices",
        error_messages={
            "empty": "must have at least one id",
            "not_a_list": "must be a list of ids",
            "null": "must be a list of ids",
        },
    )
    filter = Selection(required=False)
    applyDefaults = YesOrNoField(
        required=False, help_text="also set the defaults of new devices of the site in `set`"
    )


class MeterBulk(_Bulk):
    """New settings for meters: those listed in `ids`, or those that match `filter`."""

    set = MeterSettings(partial=True)


class VehicleBulk(_Bulk):
    """New settings for vehicles: those listed in `ids`, or those that match `filter`."""

    set = VehicleSettings(partial=True)


class _Page(serializers.Serializer):  # type: ignore[type-arg] # not generic at run time
    next = serializers.URLField(read_only=True, allow_null=True)
    previous = serializers.URLField(read_only=True, allow_null=True)


class RegisteredMeterPage(_Page):
    """A page of meters; `next` is the URL of the next page."""

    results = RegisteredMeter(many=True, read_only=True)


class RegisteredVehiclePage(_Page):
    """A page of vehicles; `next` is the URL of the next page."""

    results = RegisteredVehicle(many=True, read_only=True)


class SitePage(_Page):
    """A page of sites; `next` is the URL of the next page."""

    results = SiteRow(many=True, read_only=True)
