"""What analytics derives from history and keeps: hourly sums, cadences, the fleet's last 24 hours.

All of it can be made anew from history at any time.
"""

from django.db import models
from psqlextra.models import PostgresModel, PostgresPartitionedModel
from psqlextra.types import PostgresPartitioningMethod

from analytics.formulas import Health
from fleet.models import DeviceIdField, EnergyRegister


class MeterHour(PostgresPartitionedModel):
    """One hour of one meter, each timestamp counted once; written by `analytics.rollups` alone.

    True as long as no `ChangedMeterHour` stands beside it, and the meter's register and power limit
    are still those that it was summed up with. An hour without a row is summed up from history.
    Of a counter, the energy is that between the readings of the hour; the step into the hour is
    reckoned from its first reading and the last one before it.
    """

    hour = models.DateTimeField()
    first_measured_at = models.DateTimeField()
    last_measured_at = models.DateTimeField()
    energy_ac_kwh = models.FloatField()
    first_kwh = models.FloatField()
    last_kwh = models.FloatField()
    max_power_kw = models.FloatField(null=True)
    readings = models.IntegerField()
    suspect_steps = models.IntegerField()
    energy_register = models.CharField(max_length=8, choices=EnergyRegister)
    meter_id = DeviceIdField()
    pk = models.CompositePrimaryKey("meter_id", "hour")

    class PartitioningMeta:
        method = PostgresPartitioningMethod.RANGE
        key = ["hour"]

    def __str__(self) -> str:
        return f"{self.meter_id} {self.hour.isoformat()}"


class VehicleHour(PostgresPartitionedModel):
    """One hour of one vehicle; what `MeterHour` says holds here too."""

    hour = models.DateTimeField()
    first_measured_at = models.DateTimeField()
    last_measured_at = models.DateTimeField()
    energy_dc_kwh = models.FloatField()
    first_kwh = models.FloatField()
    last_kwh = models.FloatField()
    max_power_kw = models.FloatField(null=True)
    battery_temp_celsius_sum = models.FloatField()
    battery_temp_readings = models.IntegerField()
    readings = models.IntegerField()
    suspect_steps = models.IntegerField()
    energy_register = models.CharField(max_length=8, choices=EnergyRegister)
    vehicle_id = DeviceIdField()
    pk = models.CompositePrimaryKey("vehicle_id", "hour")

    class PartitioningMeta:
        method = PostgresPartitioningMethod.RANGE
        key = ["hour"]

    def __str__(self) -> str:
        return f"{self.vehicle_id} {self.hour.isoformat()}"


class MeterCadence(PostgresModel):
    """How often a meter reports; null before it has sent enough. Written by `analytics.cadence`."""

    meter_id = DeviceIdField(primary_key=True)
    cadence_seconds = models.FloatField(null=True)
    learned_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.meter_id)


class VehicleCadence(PostgresModel):
    """How often a vehicle reports; null before it has sent enough."""

    vehicle_id = DeviceIdField(primary_key=True)
    cadence_seconds = models.FloatField(null=True)
    learned_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.vehicle_id)


class VehicleDay(PostgresModel):
    """The last 24 hours of one vehicle when it was last looked at; for lists and rankings.

    Written by `analytics.snapshot` alone, for the whole fleet at once.
    """

    vehicle_id = DeviceIdField(primary_key=True)
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

    class Meta(PostgresModel.Meta):
        verbose_name = "vehicle's last 24 hours"

    def __str__(self) -> str:
        return str(self.vehicle_id)


class FleetDay(PostgresModel):
    """The last 24 hours of the whole fleet when it was last looked at; one row at most.

    AC of all meters and DC of all vehicles, linked or not. Written by `analytics.snapshot` alone.
    """

    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    energy_ac_kwh = models.FloatField()
    energy_dc_kwh = models.FloatField()

    class Meta(PostgresModel.Meta):
        verbose_name = "fleet's last 24 hours"

    def __str__(self) -> str:
        return f"24 hours up to {self.ends_at.isoformat()}"
