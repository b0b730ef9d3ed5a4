import fleet.models
import psqlextra.manager.manager
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('ingestion', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='ChangedMeterHour',
            fields=[
                ('meter_id', fleet.models.DeviceIdField(db_collation='C', max_length=64)),
                ('hour', models.DateTimeField()),
                ('changed_at', models.DateTimeField()),
                ('pk', models.CompositePrimaryKey('meter_id', 'hour', blank=True, editable=False, primary_key=True, serialize=False)),
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
            name='ChangedVehicleHour',
            fields=[
                ('vehicle_id', fleet.models.DeviceIdField(db_collation='C', max_length=64)),
                ('hour', models.DateTimeField()),
                ('changed_at', models.DateTimeField()),
                ('pk', models.CompositePrimaryKey('vehicle_id', 'hour', blank=True, editable=False, primary_key=True, serialize=False)),
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
