"""History: every delivery, partitioned by time; and its changed hours and archived partitions."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage
from django.db import models
from psqlextra.models import PostgresModel, PostgresPartitionedModel
from psqlextra.types import PostgresPartitioningMethod

from fleet.models import DeviceIdField
from ingestion.readings import DeviceKind


class IdentityField(models.BigAutoField):  # type: ignore[type-arg] # not generic at run time
    """An identity column that is only part of a composite primary key."""

    def _check_primary_key(self) -> list[CheckMessage]:
        return []

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        name, path, args, kwargs = super().deconstruct()
        kwargs.pop("primary_key", None)
        return name, path, args, kwargs


class MeterReading(PostgresPartitionedModel):
    """One delivery of a meter, appended by `ingestion.writer` and never changed.

    `measured_at` is the meter's time, `received_at` the server's. For one meter and `measured_at`
    the delivery with the highest (`received_at`, `id`) counts; the others are its audit trail.
    """

    # Fixed widths first: no padding between columns.
    measured_at = models.DateTimeField()
    received_at = models.DateTimeField()
    id = IdentityField()
    energy_ac_kwh = models.FloatField()
    voltage_v = models.FloatField(null=True)
    meter_id = DeviceIdField()
    # The only index. It begins with the column that would shard a distributed table.
    pk = models.CompositePrimaryKey("meter_id", "measured_at", "id")

    class PartitioningMeta:
        method = PostgresPartitioningMethod.RANGE
        key = ["measured_at"]

    def __str__(self) -> str:
        return f"{self.meter_id} {self.measured_at.isoformat()}"


class VehicleReading(PostgresPartitionedModel):
    """One delivery of a vehicle; see `MeterReading`."""

    measured_at = models.DateTimeField()
    received_at = models.DateTimeField()
    id = IdentityField()
    energy_dc_kwh = models.FloatField()
    soc_percent = models.FloatField(null=True)
    battery_temp_celsius = models.FloatField(null=True)
    vehicle_id = DeviceIdField()
    pk = models.CompositePrimaryKey("vehicle_id", "measured_at", "id")

    class PartitioningMeta:
        method = PostgresPartitioningMethod.RANGE
        key = ["measured_at"]

    def __str__(self) -> str:
        return f"{self.vehicle_id} {self.measured_at.isoformat()}"


class ChangedMeterHour(PostgresModel):
    """An hour of a meter that has received readings since it was settled.

    Its sums must not be used until they are calculated again. Written by `ingestion.writer`; the
    roll-up removes the row first, in the same transaction.
    """

    meter_id = DeviceIdField()
    hour = models.DateTimeField()
    changed_at = models.DateTimeField()
    pk = models.CompositePrimaryKey("meter_id", "hour")

    def __str__(self) -> str:
        return f"{self.meter_id} {self.hour.isoformat()}"


class ChangedVehicleHour(PostgresModel):
    """A changed hour of a vehicle; see `ChangedMeterHour`."""

    vehicle_id = DeviceIdField()
    hour = models.DateTimeField()
    changed_at = models.DateTimeField()
    pk = models.CompositePrimaryKey("vehicle_id", "hour")

    def __str__(self) -> str:
        return f"{self.vehicle_id} {self.hour.isoformat()}"


class ArchivedPartition(PostgresModel):
    """A partition of history that is completely archived; written by `ingestion.history.retention`.

    While it `is_out`, its readings are not in history or are about to leave it, so no figures are
    calculated for its period. Once it is restored, history has its readings again; archiving the
    same partition later adds another row.
    """

    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    readings = models.BigIntegerField()
    energy_kwh = models.FloatField()
    last_id = models.BigIntegerField()
    archived_at = models.DateTimeField()
    is_out = models.BooleanField(default=False)
    dropped_at = models.DateTimeField(null=True)
    brought_back_at = models.DateTimeField(null=True)
    kind = models.CharField(max_length=8, choices=[(str(kind), str(kind)) for kind in DeviceKind])
    table_name = models.CharField(max_length=63)
    file = models.CharField(max_length=120, unique=True)

    def __str__(self) -> str:
        return str(self.file)


class MeterRegister(PostgresModel):
    """A meter's last reading in a dropped partition: a counter's next step starts from it.

    Written by `ingestion.history.retention` from the delivery that counted.
    """

    measured_at = models.DateTimeField()
    energy_ac_kwh = models.FloatField()
    meter_id = DeviceIdField()
    pk = models.CompositePrimaryKey("meter_id", "measured_at")

    def __str__(self) -> str:
        return f"{self.meter_id} {self.measured_at.isoformat()}"


class VehicleRegister(PostgresModel):
    """A vehicle's last reading in a dropped partition; see `MeterRegister`."""

    measured_at = models.DateTimeField()
    energy_dc_kwh = models.FloatField()
    vehicle_id = DeviceIdField()
    pk = models.CompositePrimaryKey("vehicle_id", "measured_at")

    def __str__(self) -> str:
        return f"{self.vehicle_id} {self.measured_at.isoformat()}"
