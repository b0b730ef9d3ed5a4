import fleet.models
import ingestion.models
import psqlextra.backend.migrations.operations.create_partitioned_model
import psqlextra.manager.manager
import psqlextra.models.partitioned
import psqlextra.types
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    # No default partition, which `pgmakemigrations` adds unasked: rows in it would block the
    # creation of the partition that they belong to.
    operations = [
        psqlextra.backend.migrations.operations.create_partitioned_model.PostgresCreatePartitionedModel(
            name='MeterReading',
            fields=[
                ('measured_at', models.DateTimeField()),
                ('received_at', models.DateTimeField()),
                ('id', ingestion.models.IdentityField()),
                ('energy_ac_kwh', models.FloatField()),
                ('voltage_v', models.FloatField(null=True)),
                ('meter_id', fleet.models.DeviceIdField(db_collation='C', max_length=64)),
                ('pk', models.CompositePrimaryKey('meter_id', 'measured_at', 'id', blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'objects',
            },
            partitioning_options={
                'method': psqlextra.types.PostgresPartitioningMethod['RANGE'],
                'key': ['measured_at'],
            },
            bases=(psqlextra.models.partitioned.PostgresPartitionedModel,),
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        psqlextra.backend.migrations.operations.create_partitioned_model.PostgresCreatePartitionedModel(
            name='VehicleReading',
            fields=[
                ('measured_at', models.DateTimeField()),
                ('received_at', models.DateTimeField()),
                ('id', ingestion.models.IdentityField()),
                ('energy_dc_kwh', models.FloatField()),
                ('soc_percent', models.FloatField(null=True)),
                ('battery_temp_celsius', models.FloatField(null=True)),
                ('vehicle_id', fleet.models.DeviceIdField(db_collation='C', max_length=64)),
                ('pk', models.CompositePrimaryKey('vehicle_id', 'measured_at', 'id', blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'objects',
            },
            partitioning_options={
                'method': psqlextra.types.PostgresPartitioningMethod['RANGE'],
                'key': ['measured_at'],
            },
            bases=(psqlextra.models.partitioned.PostgresPartitionedModel,),
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
    ]
