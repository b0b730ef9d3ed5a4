import psqlextra.manager.manager
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('analytics', '0004_job_messages'),
    ]

    operations = [
        migrations.CreateModel(
            name='UnlinkedDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('attempt', models.UUIDField()),
                ('ends_at', models.DateTimeField(null=True)),
                ('energy_ac_kwh', models.FloatField(default=0)),
                ('energy_dc_kwh', models.FloatField(default=0)),
                ('meter_readings', models.BigIntegerField(default=0)),
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
