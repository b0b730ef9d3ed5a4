import analytics.formulas
import django.core.validators
import django.db.models.deletion
import fleet.models
import psqlextra.manager.manager
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('analytics', '0001_hours'),
        ('fleet', '0003_site_tariff'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        # The column is what it was: no constraint, so that devices can be distributed.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveField(model_name='vehicleday', name='vehicle_id'),
                migrations.AddField(
                    model_name='vehicleday',
                    name='vehicle',
                    field=models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, primary_key=True, related_name='day', serialize=False, to='fleet.vehicle'),
                ),
            ],
        ),
        migrations.CreateModel(
            name='FleetHour',
            fields=[
                ('hour', models.DateTimeField(primary_key=True, serialize=False)),
                ('energy_ac_kwh', models.FloatField()),
                ('energy_dc_kwh', models.FloatField()),
                ('summed_up_at', models.DateTimeField()),
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
            name='MeterDay',
            fields=[
                ('meter', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, primary_key=True, related_name='day', serialize=False, to='fleet.meter')),
                ('ends_at', models.DateTimeField()),
                ('energy_ac_kwh', models.FloatField()),
                ('linked_ac_kwh', models.FloatField()),
                ('linked_dc_kwh', models.FloatField()),
                ('efficiency_percent', models.FloatField(null=True)),
                ('coverage', models.FloatField(null=True)),
                ('readings', models.IntegerField()),
                ('suspect_steps', models.IntegerField()),
                ('health', models.CharField(choices=[(analytics.formulas.Health['HEALTHY'], analytics.formulas.Health['HEALTHY']), (analytics.formulas.Health['DEGRADED'], analytics.formulas.Health['DEGRADED']), (analytics.formulas.Health['CRITICAL'], analytics.formulas.Health['CRITICAL']), (analytics.formulas.Health['SUSPECT'], analytics.formulas.Health['SUSPECT']), (analytics.formulas.Health['UNKNOWN'], analytics.formulas.Health['UNKNOWN'])], max_length=8)),
                ('reason', models.CharField(max_length=32, null=True)),
            ],
            options={
                'verbose_name': "meter's last 24 hours",
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.CreateModel(
            name='Webhook',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('url', models.URLField(max_length=500)),
                ('secret', models.CharField(editable=False, max_length=80)),
                ('is_active', models.BooleanField(default=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['pk'],
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.AddField(
            model_name='fleetday',
            name='before_ac_kwh',
            field=models.FloatField(default=0),
        ),
        migrations.AddField(
            model_name='fleetday',
            name='before_dc_kwh',
            field=models.FloatField(default=0),
        ),
        migrations.CreateModel(
            name='Fault',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('low_efficiency', 'low efficiency'), ('hot_battery', 'battery too hot'), ('silent', 'device silent'), ('site_silent', 'many devices silent')], max_length=16)),
                ('state', models.CharField(choices=[('open', 'open'), ('acknowledged', 'acknowledged'), ('closed', 'closed')], default='open', max_length=12)),
                ('vehicle_id', fleet.models.DeviceIdField(db_collation='C', max_length=64, null=True)),
                ('meter_id', fleet.models.DeviceIdField(db_collation='C', max_length=64, null=True)),
                ('value', models.FloatField()),
                ('threshold', models.FloatField()),
                ('opened_at', models.DateTimeField()),
                ('closed_at', models.DateTimeField(null=True)),
                ('recovering_since', models.DateTimeField(null=True)),
                ('site', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, to='fleet.site')),
            ],
            options={
                'ordering': ['-opened_at', '-pk'],
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.CreateModel(
            name='FaultChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('changed_at', models.DateTimeField()),
                ('state', models.CharField(choices=[('open', 'open'), ('acknowledged', 'acknowledged'), ('closed', 'closed')], max_length=12)),
                ('note', models.CharField(blank=True, max_length=1000)),
                ('fault', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='changes', to='analytics.fault')),
                ('user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['changed_at', 'pk'],
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.CreateModel(
            name='FaultThresholds',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('efficiency_opens_percent', models.FloatField(default=85, help_text='a fault opens below this efficiency of the last 24 hours', validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(100)], verbose_name='efficiency opens, %')),
                ('efficiency_closes_percent', models.FloatField(default=87, help_text='and closes at this efficiency or above', validators=[django.core.validators.MinValueValidator(0), django.core.validators.MaxValueValidator(100)], verbose_name='efficiency closes, %')),
                ('battery_opens_celsius', models.FloatField(default=50, help_text='a fault opens above this temperature', verbose_name='battery opens, °C')),
                ('battery_closes_celsius', models.FloatField(default=45, help_text='and closes below this temperature', verbose_name='battery closes, °C')),
                ('silent_opens_cadences', models.FloatField(default=10, help_text='a fault opens when a device is silent for this many of its usual intervals and for three times its longest pause of the last 14 days', validators=[django.core.validators.MinValueValidator(2)], verbose_name='silence opens, intervals')),
                ('silent_opens_minutes', models.FloatField(default=15, help_text='and for this many minutes', validators=[django.core.validators.MinValueValidator(1)], verbose_name='silence opens, minutes')),
                ('site_silent_devices', models.PositiveIntegerField(default=5, help_text='this many silent devices at one site are a single fault, of the site', validators=[django.core.validators.MinValueValidator(2)], verbose_name='silent devices')),
                ('site', models.OneToOneField(blank=True, help_text='leave empty for all sites without thresholds of their own', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='thresholds', to='fleet.site')),
            ],
            options={
                'verbose_name': 'fault thresholds',
                'verbose_name_plural': 'fault thresholds',
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.CreateModel(
            name='WebhookDelivery',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('message_id', models.CharField(max_length=40, unique=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('attempted_at', models.DateTimeField(null=True)),
                ('status_code', models.PositiveIntegerField(null=True)),
                ('error', models.CharField(blank=True, max_length=200)),
                ('delivered_at', models.DateTimeField(null=True)),
                ('change', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='analytics.faultchange')),
                ('webhook', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='analytics.webhook')),
            ],
            options={
                'verbose_name_plural': 'webhook deliveries',
                'ordering': ['-pk'],
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.AddIndex(
            model_name='fault',
            index=models.Index(fields=['vehicle_id'], name='fault_by_vehicle'),
        ),
        migrations.AddIndex(
            model_name='fault',
            index=models.Index(fields=['meter_id'], name='fault_by_meter'),
        ),
        migrations.AddIndex(
            model_name='fault',
            index=models.Index(fields=['-opened_at', '-id'], name='fault_by_time'),
        ),
        migrations.AddIndex(
            model_name='fault',
            index=models.Index(condition=models.Q(models.Q(('state', 'closed'), _negated=True), ('recovering_since__isnull', True), _connector='OR'), fields=['kind'], name='fault_watched'),
        ),
        migrations.AddConstraint(
            model_name='fault',
            constraint=models.UniqueConstraint(condition=models.Q(models.Q(('state', 'closed'), _negated=True), ('vehicle_id__isnull', False)), fields=('vehicle_id', 'kind'), name='one_fault_of_a_kind_per_vehicle'),
        ),
        migrations.AddConstraint(
            model_name='fault',
            constraint=models.UniqueConstraint(condition=models.Q(models.Q(('state', 'closed'), _negated=True), ('meter_id__isnull', False)), fields=('meter_id', 'kind'), name='one_fault_of_a_kind_per_meter'),
        ),
        migrations.AddConstraint(
            model_name='fault',
            constraint=models.UniqueConstraint(condition=models.Q(models.Q(('state', 'closed'), _negated=True), ('meter_id__isnull', True), ('vehicle_id__isnull', True)), fields=('site', 'kind'), name='one_fault_of_a_kind_per_site'),
        ),
        migrations.AddConstraint(
            model_name='faultthresholds',
            constraint=models.UniqueConstraint(fields=('site',), name='thresholds_once_per_site', nulls_distinct=False),
        ),
    ]
