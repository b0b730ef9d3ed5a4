"""What analytics derives from history and stores: hourly sums, cadences, the last 24 hours, faults.

Sums, cadences and last 24 hours can be calculated again from history at any time. Faults, their
thresholds and notes, and webhooks can't.
"""

from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from psqlextra.models import PostgresModel, PostgresPartitionedModel
from psqlextra.types import PostgresPartitioningMethod

from analytics.formulas import Health
from fleet.models import DeviceIdField, EnergyRegister, Meter, Site, Vehicle


class MeterHour(PostgresPartitionedModel):
    """One hour of one meter, each timestamp counted once; written only by `rollups.hourly`.

    Valid as long as it has no `ChangedMeterHour`, and its `rules` are still those of the meter:
    what decides how its energy is counted. An hour without a row is calculated from history.
    Values are in kWh, by the scale of the meter.

    The energy is that of the steps between the readings of the hour; of an interval register, also
    the first reading. Of a counter, it is meant only if the hour `is_plain`: all that it takes to
    judge its readings is in it. The step into the hour is calculated from its first reading and
    what is before it. See `sql/curve.sql` for the other fields.
    """

    hour = models.DateTimeField()
    first_measured_at = models.DateTimeField()
    last_measured_at = models.DateTimeField()
    energy_ac_kwh = models.FloatField()
    first_kwh = models.FloatField()
    last_kwh = models.FloatField()
    max_power_kw = models.FloatField(null=True)
    last_rose_at = models.DateTimeField(null=True)
    readings = models.IntegerField()
    suspect_steps = models.IntegerField()
    rises = models.IntegerField(db_default=0)
    is_plain = models.BooleanField(db_default=False)
    is_gapless = models.BooleanField(db_default=False)
    energy_register = models.CharField(max_length=16, choices=EnergyRegister)
    rules = models.TextField(db_default="")
    meter_id = DeviceIdField()
    pk = models.CompositePrimaryKey("meter_id", "hour")

    class PartitioningMeta:
        method = PostgresPartitioningMethod.RANGE
        key = ["hour"]

    def __str__(self) -> str:
        return f"{self.meter_id} {self.hour.isoformat()}"


class VehicleHour(PostgresPartitionedModel):
    """One hour of one vehicle, as `MeterHour` is of a meter."""

    hour = models.DateTimeField()
    first_measured_at = models.DateTimeField()
    last_measured_at = models.DateTimeField()
    energy_dc_kwh = models.FloatField()
    first_kwh = models.FloatField()
    last_kwh = models.FloatField()
    max_power_kw = models.FloatField(null=True)
    last_rose_at = models.DateTimeField(null=True)
    battery_temp_celsius_sum = models.FloatField()
    battery_temp_readings = models.IntegerField()
    readings = models.IntegerField()
    suspect_steps = models.IntegerField()
    rises = models.IntegerField(db_default=0)
    is_plain = models.BooleanField(db_default=False)
    is_gapless = models.BooleanField(db_default=False)
    energy_register = models.CharField(max_length=16, choices=EnergyRegister)
    rules = models.TextField(db_default="")
    vehicle_id = DeviceIdField()
    pk = models.CompositePrimaryKey("vehicle_id", "hour")

    class PartitioningMeta:
        method = PostgresPartitioningMethod.RANGE
        key = ["hour"]

    def __str__(self) -> str:
        return f"{self.vehicle_id} {self.hour.isoformat()}"


class SharedHour(PostgresModel):
    """How the vehicles that were linked to a meter throughout an hour share its AC.

    Written only by `rollups.shared_hours`. `vehicle_ids` are in order, separated by line feeds;
    `energies_ac_kwh` are in the same order. Valid as long as the vehicles are these, the `rules`
    are those of the devices, and no hour of the devices between `reads_from` and `reads_until` is
    marked as changed: all readings that it follows from lie there.
    """

    hour = models.DateTimeField()
    reads_from = models.DateTimeField()
    reads_until = models.DateTimeField()
    energies_ac_kwh = ArrayField(models.FloatField())
    meter_id = DeviceIdField()
    vehicle_ids = models.TextField()
    rules = models.TextField()
    pk = models.CompositePrimaryKey("meter_id", "hour")

    def __str__(self) -> str:
        return f"{self.meter_id} {self.hour.isoformat()}"


class MeterCadence(PostgresModel):
    """How often a meter reports, and its longest pause lately; null until it has sent enough.

    Written by `rollups.cadence`. `marked_rules` are the rules under which `rollups.hourly` last
    marked its hours.
    """

    meter_id = DeviceIdField(primary_key=True)
    cadence_seconds = models.FloatField(null=True)
    learned_at = models.DateTimeField()
    marked_rules = models.TextField(db_default="", editable=False)
    # In the 14 days before `pauses_learned_at`.
    longest_pause_seconds = models.FloatField(null=True)
    pauses_learned_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return str(self.meter_id)


class VehicleCadence(PostgresModel):
    """How often a vehicle reports, and its longest pause lately; see `MeterCadence`."""

    vehicle_id = DeviceIdField(primary_key=True)
    cadence_seconds = models.FloatField(null=True)
    learned_at = models.DateTimeField()
    marked_rules = models.TextField(db_default="", editable=False)
    longest_pause_seconds = models.FloatField(null=True)
    pauses_learned_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return str(self.vehicle_id)


class VehicleDay(PostgresModel):
    """The last 24 hours of one vehicle at the last snapshot; for lists and rankings.

    Written only by `figures.snapshot`, for the whole fleet at once.
    """

    vehicle = models.OneToOneField(
        Vehicle,
        primary_key=True,
        on_delete=models.DO_NOTHING,
        related_name="day",
        db_constraint=False,
    )
    ends_at = models.DateTimeField()
    energy_ac_kwh = models.FloatField()
    energy_dc_kwh = models.FloatField()
    efficiency_percent = models.FloatField(null=True)
    battery_temp_celsius = models.FloatField(null=True)
    vehicle_coverage = models.FloatField(null=True)
    meter_coverage = models.FloatField(null=True)
    vehicle_readings = models.IntegerField()
    meter_readings = models.IntegerField()
    suspect_steps = models.IntegerField()
    ac_source = models.CharField(max_length=8)
    health = models.CharField(max_length=8, choices=[(health, health) for health in Health])
    reason = models.CharField(max_length=32, null=True)  # noqa: DJ001 # null on the wire as well
    meter_id = DeviceIdField(null=True)
    # What its AC less DC costs; null where that is not a loss, or has no price.
    loss_cost = models.DecimalField(max_digits=30, decimal_places=12, null=True)
    loss_currency = models.CharField(max_length=3, null=True)  # noqa: DJ001 # without a site
    loss_unpriced_kwh = models.FloatField(null=True)

    class Meta(PostgresModel.Meta):
        verbose_name = "vehicle's last 24 hours"

    def __str__(self) -> str:
        return str(self.vehicle_id)


class MeterDay(PostgresModel):
    """The last 24 hours of one meter, from the same snapshot as the vehicles.

    Its whole AC, and the AC and DC to compare of the spans in which vehicles were linked to it.
    """

    meter = models.OneToOneField(
        Meter,
        primary_key=True,
        on_delete=models.DO_NOTHING,
        related_name="day",
        db_constraint=False,
    )
    ends_at = models.DateTimeField()
    energy_ac_kwh = models.FloatField()
    linked_ac_kwh = models.FloatField()
    linked_dc_kwh = models.FloatField()
    efficiency_percent = models.FloatField(null=True)
    coverage = models.FloatField(null=True)
    readings = models.IntegerField()
    suspect_steps = models.IntegerField()
    health = models.CharField(max_length=8, choices=[(health, health) for health in Health])
    reason = models.CharField(max_length=32, null=True)  # noqa: DJ001 # null on the wire as well

    class Meta(PostgresModel.Meta):
        verbose_name = "meter's last 24 hours"

    def __str__(self) -> str:
        return str(self.meter_id)


class FleetDay(PostgresModel):
    """The last 24 hours of the whole fleet at the last snapshot; one row at most.

    AC of all meters and DC of all vehicles, linked or not. Written only by `figures.snapshot`.
    """

    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    energy_ac_kwh = models.FloatField()
    energy_dc_kwh = models.FloatField()
    # Of the previous 24 hours.
    before_ac_kwh = models.FloatField(default=0)
    before_dc_kwh = models.FloatField(default=0)

    class Meta(PostgresModel.Meta):
        verbose_name = "fleet's last 24 hours"

    def __str__(self) -> str:
        return f"24 hours up to {self.ends_at.isoformat()}"


class UnlinkedDay(PostgresModel):
    """Energy of the devices without a link over the last 24 hours; one row at most.

    Stored for requests by `figures.unlinked`: for a large fleet it takes seconds to calculate.
    """

    # Which attempt writes it: one that was followed by another, or whose row is gone, may not.
    attempt = models.UUIDField()
    # Null during the first attempt.
    ends_at = models.DateTimeField(null=True)
    energy_ac_kwh = models.FloatField(default=0)
    energy_dc_kwh = models.FloatField(default=0)
    meter_readings = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"24 hours up to {self.ends_at and self.ends_at.isoformat()}"


class FleetHour(PostgresModel):
    """One of the fleet's last hours: AC of all meters, DC of all vehicles, linked or not.

    The newest is not over yet. Written only by `figures.snapshot`.
    """

    hour = models.DateTimeField(primary_key=True)
    energy_ac_kwh = models.FloatField()
    energy_dc_kwh = models.FloatField()
    summed_up_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.hour.isoformat()


# --- Faults -----------------------------------------------------------------------------------


class FaultKind(models.TextChoices):
    """The kinds of fault."""

    LOW_EFFICIENCY = "low_efficiency", "low efficiency"
    STANDBY_LOSS = "standby_loss", "standby loss"
    HOT_BATTERY = "hot_battery", "battery too hot"
    SILENT = "silent", "device silent"
    SITE_SILENT = "site_silent", "many devices silent"
    CLOCK = "clock", "clock behind"


class FaultState(models.TextChoices):
    """The states of a fault."""

    OPEN = "open", "open"
    ACKNOWLEDGED = "acknowledged", "acknowledged"
    CLOSED = "closed", "closed"


class Fault(PostgresModel):
    """A fault of a vehicle, a meter or a whole site; written only by `alerting.faults`.

    `value` is the latest measurement, `threshold` is where the fault opened, both in the unit of
    the kind: `alerting.kinds`.
    """

    kind = models.CharField(max_length=16, choices=FaultKind)
    state = models.CharField(max_length=12, choices=FaultState, default=FaultState.OPEN)
    # No foreign keys to tables that are distributed by device id. A site's fault has neither.
    vehicle_id = DeviceIdField(null=True)
    meter_id = DeviceIdField(null=True)
    # The site of the device when the fault opened.
    site = models.ForeignKey(Site, null=True, on_delete=models.SET_NULL)
    value = models.FloatField()
    threshold = models.FloatField()
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    # Since when its cause has been gone: it closes automatically only if that lasts. Null in a
    # fault that was closed by hand while its cause lasted: it holds back the next one.
    recovering_since = models.DateTimeField(null=True)

    class Meta(PostgresModel.Meta):
        ordering = ["-opened_at", "-pk"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["vehicle_id", "kind"],
                name="one_fault_of_a_kind_per_vehicle",
                condition=~models.Q(state="closed") & models.Q(vehicle_id__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["meter_id", "kind"],
                name="one_fault_of_a_kind_per_meter",
                condition=~models.Q(state="closed") & models.Q(meter_id__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["site", "kind"],
                name="one_fault_of_a_kind_per_site",
                condition=~models.Q(state="closed")
                & models.Q(vehicle_id__isnull=True, meter_id__isnull=True),
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["vehicle_id"], name="fault_by_vehicle"),
            models.Index(fields=["meter_id"], name="fault_by_meter"),
            models.Index(fields=["-opened_at", "-id"], name="fault_by_time"),
            # What `alerting.faults.watch` reads, however many closed faults there are.
            models.Index(
                fields=["kind"],
                name="fault_watched",
                condition=~models.Q(state="closed") | models.Q(recovering_since__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}, {self.vehicle_id or self.meter_id or self.site}"


class FaultChange(PostgresModel):
    """A change of a fault: who made it, when, and with which note; never edited."""

    fault = models.ForeignKey(Fault, on_delete=models.CASCADE, related_name="changes")
    changed_at = models.DateTimeField()
    # Null if the engine made it.
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    state = models.CharField(max_length=12, choices=FaultState)
    note = models.CharField(max_length=1000, blank=True)

    class Meta(PostgresModel.Meta):
        ordering = ["changed_at", "pk"]

    def __str__(self) -> str:
        return f"{self.state}, {self.changed_at.isoformat()}"


class FaultNote(PostgresModel):
    """What somebody wrote about a fault, whatever its state; never edited."""

    fault = models.ForeignKey(Fault, on_delete=models.CASCADE, related_name="notes")
    written_at = models.DateTimeField()
    # Null once the user is gone.
    author = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    text = models.CharField(max_length=1000)

    class Meta(PostgresModel.Meta):
        ordering = ["written_at", "pk"]

    def __str__(self) -> str:
        return f"{self.author}, {self.written_at.isoformat()}"


class FaultThresholds(PostgresModel):
    """When faults open and close: at one site, or at all sites without thresholds of their own.

    Without a row, the defaults apply.
    """

    site = models.OneToOneField(
        Site,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="thresholds",
        help_text="leave empty for all sites without thresholds of their own",
    )
    efficiency_opens_percent = models.FloatField(
        "efficiency opens, %",
        default=85,
        validators=[MinValueValidator(0), MaxValueValidator(100)],
        help_text="a fault opens below this efficiency of the last 24 hours",
    )
    efficiency_closes_percent = models.FloatField(
        "efficiency closes, %",
        default=87,
        validators=[MinValueValidator(0), MaxValueValidator(100)],
        help_text="and closes at this efficiency or above",
    )
    standby_opens_kwh = models.FloatField(
        "standby loss opens, kWh",
        default=2,
        db_default=2,
        validators=[MinValueValidator(0.1)],
        help_text="a fault opens when a vehicle takes no DC in 24 hours, although its meter draws "
        "this much AC",
    )
    standby_closes_kwh = models.FloatField(
        "standby loss closes, kWh",
        default=1.5,
        db_default=1.5,
        validators=[MinValueValidator(0)],
        help_text="and closes below, or when the vehicle charges",
    )
    battery_opens_celsius = models.FloatField(
        "battery opens, °C", default=50, help_text="a fault opens above this temperature"
    )
    battery_closes_celsius = models.FloatField(
        "battery closes, °C", default=45, help_text="and closes below this temperature"
    )
    silent_opens_cadences = models.FloatField(
        "silence opens, intervals",
        default=10,
        validators=[MinValueValidator(2)],
        help_text="a fault opens when a device is silent for this many of its usual intervals "
        "and for three times its longest pause of the last 14 days",
    )
    silent_opens_minutes = models.FloatField(
        "silence opens, minutes",
        default=15,
        validators=[MinValueValidator(1)],
        help_text="and for this many minutes",
    )
    site_silent_devices = models.PositiveIntegerField(
        "silent devices",
        default=5,
        validators=[MinValueValidator(2)],
        help_text="this many silent devices at one site are a single fault, of the site",
    )
    clock_opens_hours = models.FloatField(
        "clock opens, hours",
        default=24,
        db_default=24,
        validators=[MinValueValidator(1)],
        help_text="a fault opens when the timestamps of a device are this far behind",
    )

    class Meta(PostgresModel.Meta):
        verbose_name = verbose_name_plural = "fault thresholds"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["site"], name="thresholds_once_per_site", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return str(self.site) if self.site else "All sites"


# --- Hints ------------------------------------------------------------------------------------


class HintKind(models.TextChoices):
    """The kinds of settings that a hint can be about."""

    UNIT = "unit", "unit of the energy"
    REGISTER = "register", "register"
    POWER = "power", "maximum power"
    CLOCK = "clock", "clock"


class Hint(PostgresModel):
    """A setting of a device that must be wrong; written only by `hints.hints`.

    `before` is the value of the device's `field`, `proposal` a better one; `numbers` say why, see
    `hints.words`. One that was followed is kept for a while and not shown.
    """

    kind = models.CharField(max_length=16, choices=HintKind)
    # No foreign keys to tables that are distributed by device id.
    vehicle_id = DeviceIdField(null=True)
    meter_id = DeviceIdField(null=True)
    field = models.CharField(max_length=32)
    before = models.JSONField(null=True)
    proposal = models.JSONField()
    numbers = models.JSONField()
    opened_at = models.DateTimeField()
    confirmed_at = models.DateTimeField()
    followed_at = models.DateTimeField(null=True)
    dismissed_at = models.DateTimeField(null=True)
    dismissed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta(PostgresModel.Meta):
        ordering = ["-opened_at", "-pk"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["vehicle_id", "kind"],
                name="one_hint_of_a_kind_per_vehicle",
                condition=models.Q(vehicle_id__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["meter_id", "kind"],
                name="one_hint_of_a_kind_per_meter",
                condition=models.Q(meter_id__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}, {self.vehicle_id or self.meter_id}"


# --- Webhooks ---------------------------------------------------------------------------------


class Webhook(PostgresModel):
    """An address that is notified of faults and, optionally, of background jobs that fail."""

    url = models.URLField(max_length=500)
    # As in Standard Webhooks: whsec_ and the key in base64.
    secret = models.CharField(max_length=80, editable=False)
    is_active = models.BooleanField(default=True)
    tells_of_jobs = models.BooleanField(default=True, db_default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(PostgresModel.Meta):
        ordering = ["pk"]

    def __str__(self) -> str:
        return str(self.url)


class WebhookDelivery(PostgresModel):
    """A message to a webhook, and the result of its latest attempt."""

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    # What it is about: a change of a fault, or else a job.
    change = models.ForeignKey(FaultChange, null=True, on_delete=models.CASCADE)
    job = models.CharField(max_length=120, blank=True, db_default="")
    message_id = models.CharField(max_length=40, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    attempts = models.PositiveIntegerField(default=0)
    attempted_at = models.DateTimeField(null=True)
    status_code = models.PositiveIntegerField(null=True)
    error = models.CharField(max_length=200, blank=True)
    delivered_at = models.DateTimeField(null=True)

    class Meta(PostgresModel.Meta):
        verbose_name_plural = "webhook deliveries"
        ordering = ["-pk"]

    def __str__(self) -> str:
        return str(self.message_id)
