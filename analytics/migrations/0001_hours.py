from pathlib import Path

import analytics.formulas
import fleet.models
import psqlextra.backend.migrations.operations.create_partitioned_model
import psqlextra.manager.manager
import psqlextra.models.partitioned
import psqlextra.types
from django.db import migrations, models

FUNCTIONS = Path(__file__).with_name("0001_functions.sql")
DROP_FUNCTIONS = '''
    DROP FUNCTION analytics_meter_span;
    DROP FUNCTION analytics_vehicle_span;
    DROP FUNCTION analytics_step_kwh;
'''


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('fleet', '0002_settled_before'),
        ('ingestion', '0002_changed_hours'),
    ]

    # No default partition, as in `ingestion`.
    operations = [
        migrations.CreateModel(
            name='FleetDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('starts_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField()),
                ('energy_ac_kwh', models.FloatField()),
                ('energy_dc_kwh', models.FloatField()),
            ],
            options={
                'verbose_name': "fleet's last 24 hours",
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.CreateModel(
            name='MeterCadence',
            fields=[
                ('meter_id', fleet.models.DeviceIdField(db_collation='C', max_length=64, primary_key=True, serialize=False)),
                ('cadence_seconds', models.FloatField(null=True)),
                ('learned_at', models.DateTimeField()),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        psqlextra.backend.migrations.operations.create_partitioned_model.PostgresCreatePartitionedModel(
            name='MeterHour',
            fields=[
                ('hour', models.DateTimeField()),
                ('first_measured_at', models.DateTimeField()),
                ('last_measured_at', models.DateTimeField()),
                ('energy_ac_kwh', models.FloatField()),
                ('first_kwh', models.FloatField()),
                ('last_kwh', models.FloatField()),
                ('max_power_kw', models.FloatField(null=True)),
                ('readings', models.IntegerField()),
                ('suspect_steps', models.IntegerField()),
                ('energy_register', models.CharField(choices=[('interval', 'interval: energy since the previous reading'), ('counter', 'counter: a cumulative register')], max_length=8)),
                ('meter_id', fleet.models.DeviceIdField(db_collation='C', max_length=64)),
                ('pk', models.CompositePrimaryKey('meter_id', 'hour', blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'objects',
            },
            partitioning_options={
                'method': psqlextra.types.PostgresPartitioningMethod['RANGE'],
                'key': ['hour'],
            },
            bases=(psqlextra.models.partitioned.PostgresPartitionedModel,),
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.CreateModel(
            name='VehicleCadence',
            fields=[
                ('vehicle_id', fleet.models.DeviceIdField(db_collation='C', max_length=64, primary_key=True, serialize=False)),
                ('cadence_seconds', models.FloatField(null=True)),
                ('learned_at', models.DateTimeField()),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.CreateModel(
            name='VehicleDay',
            fields=[
                ('vehicle_id', fleet.models.DeviceIdField(db_collation='C', max_length=64, primary_key=True, serialize=False)),
                ('ends_at', models.DateTimeField()),
                ('energy_ac_kwh', models.FloatField()),
                ('energy_dc_kwh', models.FloatField()),
                ('efficiency_percent', models.FloatField(null=True)),
                ('battery_temp_celsius', models.FloatField(null=True)),
                ('vehicle_coverage', models.FloatField(null=True)),
                ('meter_coverage', models.FloatField(null=True)),
                ('vehicle_readings', models.IntegerField()),
                ('meter_readings', models.IntegerField()),
                ('suspect_steps', models.IntegerField()),
                ('ac_source', models.CharField(max_length=8)),
                ('health', models.CharField(choices=[(analytics.formulas.Health['HEALTHY'], analytics.formulas.Health['HEALTHY']), (analytics.formulas.Health['DEGRADED'], analytics.formulas.Health['DEGRADED']), (analytics.formulas.Health['CRITICAL'], analytics.formulas.Health['CRITICAL']), (analytics.formulas.Health['SUSPECT'], analytics.formulas.Health['SUSPECT']), (analytics.formulas.Health['UNKNOWN'], analytics.formulas.Health['UNKNOWN'])], max_length=8)),
                ('reason', models.CharField(max_length=32, null=True)),
                ('meter_id', fleet.models.DeviceIdField(db_collation='C', max_length=64, null=True)),
            ],
            options={
                'verbose_name': "vehicle's last 24 hours",
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        psqlextra.backend.migrations.operations.create_partitioned_model.PostgresCreatePartitionedModel(
            name='VehicleHour',
            fields=[
                ('hour', models.DateTimeField()),
                ('first_measured_at', models.DateTimeField()),
                ('last_measured_at', models.DateTimeField()),
                ('energy_dc_kwh', models.FloatField()),
                ('first_kwh', models.FloatField()),
                ('last_kwh', models.FloatField()),
                ('max_power_kw', models.FloatField(null=True)),
                ('battery_temp_celsius_sum', models.FloatField()),
                ('battery_temp_readings', models.IntegerField()),
                ('readings', models.IntegerField()),
                ('suspect_steps', models.IntegerField()),
                ('energy_register', models.CharField(choices=[('interval', 'interval: energy since the previous reading'), ('counter', 'counter: a cumulative register')], max_length=8)),
                ('vehicle_id', fleet.models.DeviceIdField(db_collation='C', max_length=64)),
                ('pk', models.CompositePrimaryKey('vehicle_id', 'hour', blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'objects',
            },
            partitioning_options={
                'method': psqlextra.types.PostgresPartitioningMethod['RANGE'],
                'key': ['hour'],
            },
            bases=(psqlextra.models.partitioned.PostgresPartitionedModel,),
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.RunSQL(FUNCTIONS.read_text(), DROP_FUNCTIONS),
    ]
