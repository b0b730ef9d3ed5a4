import django.contrib.postgres.constraints
import django.contrib.postgres.fields.ranges
import django.contrib.postgres.operations
import django.core.validators
import django.db.models.deletion
import fleet.models
import psqlextra.manager.manager
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        # For the exclusion constraint of links: equality of ids in a GiST index.
        django.contrib.postgres.operations.BtreeGistExtension(),
        migrations.CreateModel(
            name='Meter',
            fields=[
                ('energy_register', models.CharField(choices=[('interval', 'interval: energy since the previous reading'), ('counter', 'counter: a cumulative register')], default='interval', max_length=8)),
                ('max_power_kw', models.FloatField(blank=True, help_text='a step of the register that would need more is left out as suspect', null=True, validators=[django.core.validators.MinValueValidator(0)], verbose_name='max power, kW')),
                ('registered_at', models.DateTimeField(auto_now_add=True)),
                ('meter_id', fleet.models.DeviceIdField(db_collation='C', max_length=64, primary_key=True, serialize=False)),
            ],
            options={
                'ordering': ['meter_id'],
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.CreateModel(
            name='Site',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200, unique=True)),
                ('time_zone', models.CharField(default='UTC', help_text='IANA name, such as Europe/Berlin', max_length=64, validators=[fleet.models.validate_time_zone])),
            ],
            options={
                'ordering': ['name'],
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.CreateModel(
            name='Vehicle',
            fields=[
                ('energy_register', models.CharField(choices=[('interval', 'interval: energy since the previous reading'), ('counter', 'counter: a cumulative register')], default='interval', max_length=8)),
                ('max_power_kw', models.FloatField(blank=True, help_text='a step of the register that would need more is left out as suspect', null=True, validators=[django.core.validators.MinValueValidator(0)], verbose_name='max power, kW')),
                ('registered_at', models.DateTimeField(auto_now_add=True)),
                ('vehicle_id', fleet.models.DeviceIdField(db_collation='C', max_length=64, primary_key=True, serialize=False)),
                ('site', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, to='fleet.site')),
            ],
            options={
                'ordering': ['vehicle_id'],
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.CreateModel(
            name='MeterLiveState',
            fields=[
                ('meter', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, primary_key=True, related_name='live_state', serialize=False, to='fleet.meter')),
                ('measured_at', models.DateTimeField()),
                ('received_at', models.DateTimeField()),
                ('energy_ac_kwh', models.FloatField()),
                ('voltage_v', models.FloatField(null=True)),
            ],
            options={
                'verbose_name_plural': 'meter live state',
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.AddField(
            model_name='meter',
            name='site',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, to='fleet.site'),
        ),
        migrations.CreateModel(
            name='VehicleLiveState',
            fields=[
                ('vehicle', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, primary_key=True, related_name='live_state', serialize=False, to='fleet.vehicle')),
                ('measured_at', models.DateTimeField()),
                ('received_at', models.DateTimeField()),
                ('energy_dc_kwh', models.FloatField()),
                ('soc_percent', models.FloatField(null=True)),
                ('battery_temp_celsius', models.FloatField(null=True)),
            ],
            options={
                'verbose_name_plural': 'vehicle live state',
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.CreateModel(
            name='VehicleMeterLink',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('valid_during', django.contrib.postgres.fields.ranges.DateTimeRangeField()),
                ('meter', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.PROTECT, related_name='links', to='fleet.meter')),
                ('vehicle', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='links', to='fleet.vehicle')),
            ],
            options={
                'verbose_name': 'link',
                'ordering': ['vehicle_id', '-valid_during'],
                'abstract': False,
                'base_manager_name': 'objects',
                'constraints': [django.contrib.postgres.constraints.ExclusionConstraint(expressions=[('vehicle', '='), ('valid_during', '&&')], name='one_meter_per_vehicle_at_any_instant'), models.CheckConstraint(condition=models.Q(('valid_during__isempty', False), ('valid_during__startswith__isnull', False)), name='link_begins_and_is_not_empty')],
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        # Room on each page for the next version of its rows, so that updates stay HOT.
        *(
            migrations.RunSQL(
                f'ALTER TABLE {table} SET (fillfactor = 70)',
                f'ALTER TABLE {table} RESET (fillfactor)',
            )
            for table in ('fleet_meterlivestate', 'fleet_vehiclelivestate')
        ),
    ]
