"""The device registry, the links between meters and vehicles, live state, and API keys."""

import unicodedata
import zoneinfo
from collections.abc import Collection
from decimal import Decimal
from math import isfinite
from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import ArrayField, DateTimeRangeField, RangeOperators
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Value
from django.utils import timezone
from psqlextra.models import PostgresModel

from fleet.device_ids import (
    DEVICE_ID_MAX_LENGTH,
    DEVICE_ID_PATTERN,
    DEVICE_ID_RULE,
    ExternalIdKey,
    LookAlikeKey,
)
from fleet.tariffs.changes import is_only_price
from fleet.tariffs.models import SeriesPrice, Tariff, TariffRule

__all__ = ["SeriesPrice", "Tariff", "TariffRule"]  # Django looks for tables here

_YEAR_SECONDS = 31_536_000


class DeviceIdField(models.CharField):  # type: ignore[type-arg] # not generic at run time
    """The id of a meter or a vehicle: `varchar(64)`, compared as bytes."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs |= {"max_length": DEVICE_ID_MAX_LENGTH, "db_collation": "C"}
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    default_validators = [RegexValidator(rf"^{DEVICE_ID_PATTERN}\Z", DEVICE_ID_RULE)]

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        # The standard's long name of varchar: for a type spelled `varchar`, Django adds a second
        # index for LIKE, which the C collation does not need.
        return f"character varying({DEVICE_ID_MAX_LENGTH})"


def validate_time_zone(name: str) -> None:
    """Errors: `ValidationError` when `name` is not an IANA time zone."""
    if name not in zoneinfo.available_timezones():
        raise ValidationError(
            "must be an IANA time zone, such as Europe/Berlin", code="invalid_format"
        )


def validate_positive(number: float) -> None:
    """Errors: `ValidationError` when `number` is not a finite number above 0."""
    if not (isfinite(number) and number > 0):
        raise ValidationError("must be a number above 0", code="out_of_range")


def validate_offset(seconds: float) -> None:
    """Errors: `ValidationError` when `seconds` is more than a year, either way."""
    if not abs(seconds) <= _YEAR_SECONDS:
        raise ValidationError(
            "must be a number from -31,536,000 to 31,536,000", code="out_of_range"
        )


class Site(PostgresModel):
    """A depot or car park: where meters are installed and vehicles are based."""

    name = models.CharField(max_length=200, unique=True)
    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_time_zone],
        help_text="IANA name, such as Europe/Berlin",
    )
    currency = models.CharField(
        max_length=3,
        default="EUR",
        validators=[
            RegexValidator(
                r"^[A-Z]{3}\Z", "must be three capital letters, such as EUR", "invalid_format"
            )
        ],
        help_text="ISO 4217 code, such as EUR",
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def tariff_per_kwh(self) -> Decimal | None:
        """Return the price of its only tariff, if that is fixed and valid at all times."""
        prices = [
            tariff.price_per_kwh if is_only_price(tariff) else None for tariff in self.tariffs.all()
        ]
        return prices[0] if len(prices) == 1 else None


class EnergyRegister(models.TextChoices):
    """What the energy in a device's reading means."""

    INTERVAL = "interval", "interval: energy since the previous reading"
    COUNTER = "counter", "counter: a lifetime register"
    SESSION_COUNTER = "session_counter", "session counter: starts again at each plug-in"


class EnergySettings(PostgresModel):
    """How the energy in a device's readings is counted; see `fleet.registers`."""

    energy_register = models.CharField(
        max_length=16, choices=EnergyRegister, default=EnergyRegister.INTERVAL
    )
    scale = models.FloatField(
        "scale, kWh per unit",
        default=1.0,
        db_default=1.0,
        validators=[validate_positive],
        help_text="kWh per unit of the energy it reports: 0.001 for Wh, 40 for a transformer 40:1",
    )
    max_power_kw = models.FloatField(
        "max power, kW",
        null=True,
        blank=True,
        validators=[validate_positive],
        help_text="energy that implies more power is excluded as suspect",
    )
    interval_seconds = models.FloatField(
        "interval, seconds",
        null=True,
        blank=True,
        validators=[validate_positive],
        help_text="time between two readings; leave empty to learn it from history",
    )
    rolls_over_at_kwh = models.FloatField(
        "rolls over at, kWh",
        null=True,
        blank=True,
        validators=[validate_positive],
        help_text="where the counter starts again at 0; leave empty if it never does",
    )

    class Meta(PostgresModel.Meta):
        abstract = True

    def clean(self) -> None:
        """Errors: `ValidationError` for settings that exclude each other."""
        super().clean()
        if self.rolls_over_at_kwh is not None and self.energy_register != EnergyRegister.COUNTER:
            only = "must be empty unless the energy register is counter"
            raise ValidationError({"rolls_over_at_kwh": ValidationError(only, code="conflict")})


class Device(EnergySettings):
    """The common fields of meters and vehicles."""

    name = models.CharField(
        max_length=200, blank=True, default="", db_default="", help_text="what people call it"
    )
    external_id = models.CharField(  # unique, so absent has to be null
        "external id",
        max_length=200,
        null=True,
        blank=True,
        unique=True,
        help_text="its id in another system, such as a serial number or an EVSE id; readings may "
        "carry it in place of the id",
    )
    site = models.ForeignKey(Site, null=True, blank=True, on_delete=models.PROTECT)
    clock_offset_seconds = models.FloatField(
        "clock offset, seconds",
        default=0.0,
        db_default=0.0,
        validators=[validate_offset],
        help_text="added to the timestamps of its readings when they arrive, from two seconds "
        "after a change; imported files and readings already stored keep theirs",
    )
    registered_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(
        null=True, blank=True, help_text="when it went out of service"
    )

    class Meta(EnergySettings.Meta):
        abstract = True

    @property
    def is_retired(self) -> bool:
        return self.retired_at is not None and self.retired_at <= timezone.now()

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Errors: also `ValidationError`, where an id and an external id would be mistaken."""
        super().clean_fields(exclude)
        others = type(self)._default_manager.exclude(pk=self.pk)
        kind, key = self._meta.verbose_name, self._meta.pk.name
        if "external_id" not in (exclude or ()):
            self.external_id = self.external_id or None
            if self.external_id:
                _require_free(self.external_id, others, str(kind))
        is_new = self._state.adding and key not in (exclude or ())
        if is_new and others.filter(external_id=self.pk).exists():
            raise ValidationError({key: f"This is the external id of another {kind}."})


def _require_free(external_id: str, others: "models.QuerySet[Device]", kind: str) -> None:
    """Errors: `ValidationError`, unless no other device could be meant by `external_id`."""
    message = ""
    if any(unicodedata.category(char) == "Cc" for char in external_id):
        message = "An external id has no control characters, such as line breaks."
    elif others.filter(pk=external_id).exists():
        message = f"This is the id of another {kind}."
    elif settings.EXTERNAL_IDS_IGNORE_CASE:
        key = ExternalIdKey(Value(external_id))
        if others.alias(key=ExternalIdKey("external_id")).filter(key=key).exists():
            message = f"Another {kind} has this external id, but for its case."
    if message:
        raise ValidationError({"external_id": message})


def _indexes(kind: str) -> list[models.Index]:
    return [
        models.Index(
            ExternalIdKey(models.F("external_id")),
            name=f"{kind}_external_id_lower",
            condition=models.Q(external_id__isnull=False),
        ),
        models.Index(LookAlikeKey(models.F(f"{kind}_id")), name=f"{kind}_id_look_alikes"),
        # What `ingestion.clock_offsets` looks for every two seconds.
        models.Index(
            fields=["clock_offset_seconds"],
            name=f"{kind}_clock_offset",
            condition=~models.Q(clock_offset_seconds=0),
        ),
    ]


class Meter(Device):
    """A smart meter: measures the AC energy that a charger draws."""

    meter_id = DeviceIdField(primary_key=True)

    class Meta(Device.Meta):
        ordering = ["meter_id"]
        indexes = _indexes("meter")

    def __str__(self) -> str:
        return str(self.meter_id)


class Vehicle(Device):
    """A vehicle: reports the DC energy delivered to its battery."""

    vehicle_id = DeviceIdField(primary_key=True)

    class Meta(Device.Meta):
        ordering = ["vehicle_id"]
        indexes = _indexes("vehicle")

    def __str__(self) -> str:
        return str(self.vehicle_id)


class DeviceKind(models.TextChoices):
    """The two kinds of devices."""

    METER = "meter", "meters"
    VEHICLE = "vehicle", "vehicles"


class DeviceDefaults(EnergySettings):
    """The settings that a device gets when it registers itself.

    With a site: devices that register at it, with a key of that site; only with defaults can they.
    Without a site: all others.
    """

    site = models.ForeignKey(
        Site,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="device_defaults",
        help_text="devices that send with a key of this site; leave empty for all others",
    )
    kind = models.CharField(max_length=7, choices=DeviceKind)

    class Meta(EnergySettings.Meta):
        verbose_name = verbose_name_plural = "device defaults"
        ordering = ["site__name", "kind"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["site", "kind"],
                name="device_defaults_once_per_site",
                nulls_distinct=False,
                violation_error_message="This site already has defaults for this kind of device",
            )
        ]

    def __str__(self) -> str:
        return (
            f"{self.get_kind_display().capitalize()} of {self.site}"
            if self.site
            else f"All other {self.get_kind_display()}"
        )


class VehicleMeterLink(PostgresModel):
    """The period in which a vehicle charges at a meter; `fleet.links` is its only writer.

    Half-open; a null upper bound means until further notice.
    """

    # No foreign keys between tables that are distributed by device id.
    vehicle = models.ForeignKey(
        Vehicle, on_delete=models.PROTECT, related_name="links", db_constraint=False, db_index=False
    )
    meter = models.ForeignKey(
        Meter, on_delete=models.PROTECT, related_name="links", db_constraint=False
    )
    valid_during = DateTimeRangeField(default_bounds="[)")

    class Meta(PostgresModel.Meta):
        verbose_name = "link"
        ordering = ["vehicle_id", "-valid_during"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            ExclusionConstraint(
                name="one_meter_per_vehicle_at_any_instant",
                expressions=[
                    ("vehicle", RangeOperators.EQUAL),
                    ("valid_during", RangeOperators.OVERLAPS),
                ],
            ),
            models.CheckConstraint(
                name="link_begins_and_is_not_empty",
                condition=models.Q(
                    valid_during__isempty=False, valid_during__startswith__isnull=False
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.vehicle_id} at {self.meter_id}"


class LiveState(PostgresModel):
    """The common fields of the live states of meters and vehicles.

    Hours before `settled_before` have stored sums, so a reading from one of them marks its hour as
    changed (`ingestion.models`). Code that advances it locks the row, as the writer does, so that
    neither misses the other's change.
    """

    measured_at = models.DateTimeField()
    received_at = models.DateTimeField()
    settled_before = models.DateTimeField(null=True, editable=False)

    class Meta(PostgresModel.Meta):
        abstract = True


class MeterLiveState(LiveState):
    """The newest reading of a meter; only `ingestion.writer` moves it forward."""

    meter = models.OneToOneField(
        Meter,
        primary_key=True,
        on_delete=models.DO_NOTHING,
        related_name="live_state",
        db_constraint=False,
    )
    energy_ac_kwh = models.FloatField()
    voltage_v = models.FloatField(null=True)

    class Meta(LiveState.Meta):
        verbose_name_plural = "meter live state"

    def __str__(self) -> str:
        return str(self.meter_id)


class VehicleLiveState(LiveState):
    """The newest reading of a vehicle; only `ingestion.writer` moves it forward."""

    vehicle = models.OneToOneField(
        Vehicle,
        primary_key=True,
        on_delete=models.DO_NOTHING,
        related_name="live_state",
        db_constraint=False,
    )
    energy_dc_kwh = models.FloatField()
    soc_percent = models.FloatField(null=True)
    battery_temp_celsius = models.FloatField(null=True)

    class Meta(LiveState.Meta):
        verbose_name_plural = "vehicle live state"

    def __str__(self) -> str:
        return str(self.vehicle_id)


class Scope(models.TextChoices):
    """What a key may be used for."""

    INGEST = "ingest", "ingest: send readings"
    READ = "read", "read: figures, live state, links and faults"
    MANAGE = "manage", "manage: links and keys"


class Reach(models.TextChoices):
    """Which devices a key may be used for."""

    ALL = "all", "all devices"
    SITE = "site", "the devices of a site"
    DEVICES = "devices", "listed devices"


class ApiKey(PostgresModel):
    """An API key of a device, a gateway or a program; created by `fleet.access.issuing`.

    Only its owner knows the token; the database has the token's SHA-256. A token has 256 random
    bits, which nobody can guess, so it needs no slow hash.
    """

    name = models.CharField(max_length=100, help_text="who or what uses it")
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    sha256 = models.BinaryField(max_length=32, unique=True, editable=False)
    scopes = ArrayField(models.CharField(max_length=8, choices=Scope))
    reach = models.CharField(max_length=8, choices=Reach)
    site = models.ForeignKey(Site, null=True, blank=True, on_delete=models.CASCADE)
    meter_ids = ArrayField(DeviceIdField(), default=list, blank=True)
    vehicle_ids = ArrayField(DeviceIdField(), default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True, db_index=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Accurate to the minute: writing it at every request would cost more than the request.
    last_used_at = models.DateTimeField(null=True, editable=False)

    class Meta(PostgresModel.Meta):
        verbose_name = "API key"
        ordering = ["-created_at", "-pk"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                name="key_is_bound_to_what_it_reaches",
                condition=models.Q(reach="site", site__isnull=False)
                | models.Q(site__isnull=True) & ~models.Q(reach="site"),
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
