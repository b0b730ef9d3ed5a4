import fleet.models
import psqlextra.manager.manager
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('ingestion', '0002_changed_hours'),
    ]

    operations = [
        migrations.CreateModel(
            name='ArchivedPartition',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('starts_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField()),
                ('readings', models.BigIntegerField()),
                ('energy_kwh', models.FloatField()),
                ('last_id', models.BigIntegerField()),
                ('archived_at', models.DateTimeField()),
                ('is_out', models.BooleanField(default=False)),
                ('dropped_at', models.DateTimeField(null=True)),
                ('brought_back_at', models.DateTimeField(null=True)),
                ("kind", models.CharField(choices=[("meter", "meter"), ("vehicle", "vehicle")], max_length=8)),
                ('table_name', models.CharField(max_length=63)),
                ('file', models.CharField(max_length=120, unique=True)),
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
            name='MeterRegister',
            fields=[
                ('measured_at', models.DateTimeField()),
                ('energy_ac_kwh', models.FloatField()),
                ('meter_id', fleet.models.DeviceIdField(db_collation='C', max_length=64)),
                ('pk', models.CompositePrimaryKey('meter_id', 'measured_at', blank=True, editable=False, primary_key=True, serialize=False)),
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
            name='VehicleRegister',
            fields=[
                ('measured_at', models.DateTimeField()),
                ('energy_dc_kwh', models.FloatField()),
                ('vehicle_id', fleet.models.DeviceIdField(db_collation='C', max_length=64)),
                ('pk', models.CompositePrimaryKey('vehicle_id', 'measured_at', blank=True, editable=False, primary_key=True, serialize=False)),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
    ]
