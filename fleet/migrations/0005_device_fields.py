import fleet.models
from django.db import migrations, models

from fleet.stores.table_locks import WhileDevicesWrite

# The version before has no session counters; it takes a register that falls for a reset.
BACK_TO_COUNTERS = '''
    UPDATE fleet_meter SET energy_register = 'counter' WHERE energy_register = 'session_counter';
    UPDATE fleet_vehicle SET energy_register = 'counter' WHERE energy_register = 'session_counter';
'''


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0004_api_keys'),
    ]

    operations = [
        WhileDevicesWrite(
            ['fleet_meter', 'fleet_vehicle'],
            [
                migrations.AddField(
                    model_name='meter',
                    name='clock_offset_seconds',
                    field=models.FloatField(db_default=0.0, default=0.0, help_text='added to the timestamps of its readings when they arrive, from two seconds after a change; imported files and readings already stored keep theirs', verbose_name='clock offset, seconds'),
                ),
                migrations.AddField(
                    model_name='meter',
                    name='external_id',
                    field=models.CharField(blank=True, help_text='its id in another system, such as a serial number or an EVSE id; readings may carry it in place of the id', max_length=200, null=True, unique=True, verbose_name='external id'),
                ),
                migrations.AddField(
                    model_name='meter',
                    name='interval_seconds',
                    field=models.FloatField(blank=True, help_text='time between two readings; leave empty to learn it from history', null=True, validators=[fleet.models.validate_positive], verbose_name='interval, seconds'),
                ),
                migrations.AddField(
                    model_name='meter',
                    name='name',
                    field=models.CharField(blank=True, db_default='', default='', help_text='what people call it', max_length=200),
                ),
                migrations.AddField(
                    model_name='meter',
                    name='retired_at',
                    field=models.DateTimeField(blank=True, help_text='when it went out of service', null=True),
                ),
                migrations.AddField(
                    model_name='meter',
                    name='rolls_over_at_kwh',
                    field=models.FloatField(blank=True, help_text='where the counter starts again at 0; leave empty if it never does', null=True, validators=[fleet.models.validate_positive], verbose_name='rolls over at, kWh'),
                ),
                migrations.AddField(
                    model_name='meter',
                    name='scale',
                    field=models.FloatField(db_default=1.0, default=1.0, help_text='kWh per unit of the energy it reports: 0.001 for Wh, 40 for a transformer 40:1', validators=[fleet.models.validate_positive], verbose_name='scale, kWh per unit'),
                ),
                migrations.AddField(
                    model_name='vehicle',
                    name='clock_offset_seconds',
                    field=models.FloatField(db_default=0.0, default=0.0, help_text='added to the timestamps of its readings when they arrive, from two seconds after a change; imported files and readings already stored keep theirs', verbose_name='clock offset, seconds'),
                ),
                migrations.AddField(
                    model_name='vehicle',
                    name='external_id',
                    field=models.CharField(blank=True, help_text='its id in another system, such as a serial number or an EVSE id; readings may carry it in place of the id', max_length=200, null=True, unique=True, verbose_name='external id'),
                ),
                migrations.AddField(
                    model_name='vehicle',
                    name='interval_seconds',
                    field=models.FloatField(blank=True, help_text='time between two readings; leave empty to learn it from history', null=True, validators=[fleet.models.validate_positive], verbose_name='interval, seconds'),
                ),
                migrations.AddField(
                    model_name='vehicle',
                    name='name',
                    field=models.CharField(blank=True, db_default='', default='', help_text='what people call it', max_length=200),
                ),
                migrations.AddField(
                    model_name='vehicle',
                    name='retired_at',
                    field=models.DateTimeField(blank=True, help_text='when it went out of service', null=True),
                ),
                migrations.AddField(
                    model_name='vehicle',
                    name='rolls_over_at_kwh',
                    field=models.FloatField(blank=True, help_text='where the counter starts again at 0; leave empty if it never does', null=True, validators=[fleet.models.validate_positive], verbose_name='rolls over at, kWh'),
                ),
                migrations.AddField(
                    model_name='vehicle',
                    name='scale',
                    field=models.FloatField(db_default=1.0, default=1.0, help_text='kWh per unit of the energy it reports: 0.001 for Wh, 40 for a transformer 40:1', validators=[fleet.models.validate_positive], verbose_name='scale, kWh per unit'),
                ),
                migrations.AlterField(
                    model_name='meter',
                    name='energy_register',
                    field=models.CharField(choices=[('interval', 'interval: energy since the previous reading'), ('counter', 'counter: a lifetime register'), ('session_counter', 'session counter: starts again at each plug-in')], default='interval', max_length=16),
                ),
                migrations.AlterField(
                    model_name='meter',
                    name='max_power_kw',
                    field=models.FloatField(blank=True, help_text='energy that implies more power is excluded as suspect', null=True, validators=[fleet.models.validate_positive], verbose_name='max power, kW'),
                ),
                migrations.AlterField(
                    model_name='vehicle',
                    name='energy_register',
                    field=models.CharField(choices=[('interval', 'interval: energy since the previous reading'), ('counter', 'counter: a lifetime register'), ('session_counter', 'session counter: starts again at each plug-in')], default='interval', max_length=16),
                ),
                migrations.AlterField(
                    model_name='vehicle',
                    name='max_power_kw',
                    field=models.FloatField(blank=True, help_text='energy that implies more power is excluded as suspect', null=True, validators=[fleet.models.validate_positive], verbose_name='max power, kW'),
                ),
            ],
        ),
        migrations.RunSQL(migrations.RunSQL.noop, BACK_TO_COUNTERS),
    ]
