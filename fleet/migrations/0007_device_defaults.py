import django.db.models.deletion
import fleet.models
import psqlextra.manager.manager
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0006_look_alikes_and_external_ids'),
    ]

    operations = [
        migrations.AlterField(
            model_name='meter',
            name='clock_offset_seconds',
            field=models.FloatField(db_default=0.0, default=0.0, help_text='added to the timestamps of its readings when they arrive, from two seconds after a change; imported files and readings already stored keep theirs', validators=[fleet.models.validate_offset], verbose_name='clock offset, seconds'),
        ),
        migrations.AlterField(
            model_name='vehicle',
            name='clock_offset_seconds',
            field=models.FloatField(db_default=0.0, default=0.0, help_text='added to the timestamps of its readings when they arrive, from two seconds after a change; imported files and readings already stored keep theirs', validators=[fleet.models.validate_offset], verbose_name='clock offset, seconds'),
        ),
        migrations.CreateModel(
            name='DeviceDefaults',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('energy_register', models.CharField(choices=[('interval', 'interval: energy since the previous reading'), ('counter', 'counter: a lifetime register'), ('session_counter', 'session counter: starts again at each plug-in')], default='interval', max_length=16)),
                ('scale', models.FloatField(db_default=1.0, default=1.0, help_text='kWh per unit of the energy it reports: 0.001 for Wh, 40 for a transformer 40:1', validators=[fleet.models.validate_positive], verbose_name='scale, kWh per unit')),
                ('max_power_kw', models.FloatField(blank=True, help_text='energy that implies more power is excluded as suspect', null=True, validators=[fleet.models.validate_positive], verbose_name='max power, kW')),
                ('interval_seconds', models.FloatField(blank=True, help_text='time between two readings; leave empty to learn it from history', null=True, validators=[fleet.models.validate_positive], verbose_name='interval, seconds')),
                ('rolls_over_at_kwh', models.FloatField(blank=True, help_text='where the counter starts again at 0; leave empty if it never does', null=True, validators=[fleet.models.validate_positive], verbose_name='rolls over at, kWh')),
                ('kind', models.CharField(choices=[('meter', 'meters'), ('vehicle', 'vehicles')], max_length=7)),
                ('site', models.ForeignKey(blank=True, help_text='devices that send with a key of this site; leave empty for all others', null=True, on_delete=django.db.models.deletion.CASCADE, related_name='device_defaults', to='fleet.site')),
            ],
            options={
                'verbose_name': 'device defaults',
                'verbose_name_plural': 'device defaults',
                'ordering': ['site__name', 'kind'],
                'abstract': False,
                'base_manager_name': 'objects',
                'constraints': [models.UniqueConstraint(fields=('site', 'kind'), name='device_defaults_once_per_site', nulls_distinct=False, violation_error_message='This site already has defaults for this kind of device')],
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
    ]
