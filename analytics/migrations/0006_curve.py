from pathlib import Path

import django.contrib.postgres.fields
import fleet.models
import psqlextra.manager.manager
from django.db import migrations, models

FUNCTIONS = Path(__file__).parents[1] / "sql" / "curve.sql"
_SPAN = "(text, timestamptz, timestamptz, text, float8, float8, float8, float8, timestamptz, timestamptz)"
DROP_FUNCTIONS = f'''
    DROP FUNCTION analytics_rules_of_shares;
    DROP FUNCTION analytics_vehicle_blocks;
    DROP FUNCTION analytics_meter_blocks;
    DROP FUNCTION analytics_vehicle_beyond;
    DROP FUNCTION analytics_meter_beyond;
    DROP FUNCTION analytics_vehicle_after;
    DROP FUNCTION analytics_meter_after;
    DROP FUNCTION analytics_vehicle_span{_SPAN};
    DROP FUNCTION analytics_meter_span{_SPAN};
    DROP FUNCTION analytics_rounded_cadence;
    DROP FUNCTION analytics_interval_seconds;
    DROP FUNCTION analytics_is_plausible;
    DROP FUNCTION analytics_register;
'''

# The version before learned cadences that are not rounded.
ROUND_CADENCES = '''
    UPDATE analytics_metercadence
    SET cadence_seconds = analytics_rounded_cadence(cadence_seconds) WHERE cadence_seconds IS NOT NULL;
    UPDATE analytics_vehiclecadence
    SET cadence_seconds = analytics_rounded_cadence(cadence_seconds) WHERE cadence_seconds IS NOT NULL;
'''

# The version before would take sums that follow these rules for its own; it makes all of them anew.
FORGET_SUMS = '''
    TRUNCATE analytics_meterhour, analytics_vehiclehour;
    UPDATE fleet_meterlivestate SET settled_before = NULL;
    UPDATE fleet_vehiclelivestate SET settled_before = NULL;
'''


class Migration(migrations.Migration):

    dependencies = [
        ('analytics', '0005_unlinked_day'),
        ('fleet', '0005_device_fields'),
    ]

    # The columns and functions of the version before stay: it may still run meanwhile. Its sums have
    # no rules, so they are not valid, and are made anew.
    operations = [
        migrations.AddField(
            model_name='metercadence',
            name='marked_rules',
            field=models.TextField(db_default='', editable=False),
        ),
        migrations.AddField(
            model_name='meterhour',
            name='is_gapless',
            field=models.BooleanField(db_default=False),
        ),
        migrations.AddField(
            model_name='meterhour',
            name='is_plain',
            field=models.BooleanField(db_default=False),
        ),
        migrations.AddField(
            model_name='meterhour',
            name='last_rose_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='meterhour',
            name='rises',
            field=models.IntegerField(db_default=0),
        ),
        migrations.AddField(
            model_name='meterhour',
            name='rules',
            field=models.TextField(db_default=''),
        ),
        migrations.AddField(
            model_name='vehiclecadence',
            name='marked_rules',
            field=models.TextField(db_default='', editable=False),
        ),
        migrations.AddField(
            model_name='vehiclehour',
            name='is_gapless',
            field=models.BooleanField(db_default=False),
        ),
        migrations.AddField(
            model_name='vehiclehour',
            name='is_plain',
            field=models.BooleanField(db_default=False),
        ),
        migrations.AddField(
            model_name='vehiclehour',
            name='last_rose_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='vehiclehour',
            name='rises',
            field=models.IntegerField(db_default=0),
        ),
        migrations.AddField(
            model_name='vehiclehour',
            name='rules',
            field=models.TextField(db_default=''),
        ),
        migrations.AlterField(
            model_name='meterhour',
            name='energy_register',
            field=models.CharField(choices=[('interval', 'interval: energy since the previous reading'), ('counter', 'counter: a lifetime register'), ('session_counter', 'session counter: starts again at each plug-in')], max_length=16),
        ),
        migrations.AlterField(
            model_name='vehiclehour',
            name='energy_register',
            field=models.CharField(choices=[('interval', 'interval: energy since the previous reading'), ('counter', 'counter: a lifetime register'), ('session_counter', 'session counter: starts again at each plug-in')], max_length=16),
        ),
        migrations.CreateModel(
            name='SharedHour',
            fields=[
                ('pk', models.CompositePrimaryKey('meter_id', 'hour', blank=True, editable=False, primary_key=True, serialize=False)),
                ('hour', models.DateTimeField()),
                ('reads_from', models.DateTimeField()),
                ('reads_until', models.DateTimeField()),
                ('energies_ac_kwh', django.contrib.postgres.fields.ArrayField(base_field=models.FloatField(), size=None)),
                ('meter_id', fleet.models.DeviceIdField(db_collation='C', max_length=64)),
                ('vehicle_ids', models.TextField()),
                ('rules', models.TextField()),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.RunSQL(FUNCTIONS.read_text(), DROP_FUNCTIONS),
        migrations.RunSQL(ROUND_CADENCES, migrations.RunSQL.noop),
        migrations.RunSQL(migrations.RunSQL.noop, FORGET_SUMS),
    ]
