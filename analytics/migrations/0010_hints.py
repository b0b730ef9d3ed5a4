import django.db.models.deletion
import fleet.models
import psqlextra.manager.manager
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('analytics', '0009_clock'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Hint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('unit', 'unit of the energy'), ('register', 'register'), ('power', 'maximum power'), ('clock', 'clock')], max_length=16)),
                ('vehicle_id', fleet.models.DeviceIdField(db_collation='C', max_length=64, null=True)),
                ('meter_id', fleet.models.DeviceIdField(db_collation='C', max_length=64, null=True)),
                ('field', models.CharField(max_length=32)),
                ('before', models.JSONField(null=True)),
                ('proposal', models.JSONField()),
                ('numbers', models.JSONField()),
                ('opened_at', models.DateTimeField()),
                ('confirmed_at', models.DateTimeField()),
                ('followed_at', models.DateTimeField(null=True)),
                ('dismissed_at', models.DateTimeField(null=True)),
                ('dismissed_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-opened_at', '-pk'],
                'abstract': False,
                'base_manager_name': 'objects',
                'constraints': [models.UniqueConstraint(condition=models.Q(('vehicle_id__isnull', False)), fields=('vehicle_id', 'kind'), name='one_hint_of_a_kind_per_vehicle'), models.UniqueConstraint(condition=models.Q(('meter_id__isnull', False)), fields=('meter_id', 'kind'), name='one_hint_of_a_kind_per_meter')],
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
    ]
