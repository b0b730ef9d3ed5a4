import django.contrib.postgres.fields
import django.db.models.deletion
import fleet.models
import psqlextra.manager.manager
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0003_site_tariff'),
    ]

    operations = [
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='who or what uses it', max_length=100)),
                ('prefix', models.CharField(editable=False, max_length=16, unique=True)),
                ('sha256', models.BinaryField(max_length=32, unique=True)),
                ('scopes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('ingest', 'ingest: send readings'), ('read', 'read: figures, live state, links and faults'), ('manage', 'manage: links and keys')], max_length=8), size=None)),
                ('reach', models.CharField(choices=[('all', 'all devices'), ('site', 'the devices of a site'), ('devices', 'listed devices')], max_length=8)),
                ('meter_ids', django.contrib.postgres.fields.ArrayField(base_field=fleet.models.DeviceIdField(db_collation='C', max_length=64), blank=True, default=list, size=None)),
                ('vehicle_ids', django.contrib.postgres.fields.ArrayField(base_field=fleet.models.DeviceIdField(db_collation='C', max_length=64), blank=True, default=list, size=None)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('changed_at', models.DateTimeField(auto_now=True, db_index=True)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('last_used_at', models.DateTimeField(editable=False, null=True)),
                ('site', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, to='fleet.site')),
            ],
            options={
                'verbose_name': 'API key',
                'ordering': ['-created_at', '-pk'],
                'abstract': False,
                'base_manager_name': 'objects',
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('reach', 'site'), ('site__isnull', False)), models.Q(('site__isnull', True), models.Q(('reach', 'site'), _negated=True)), _connector='OR'), name='key_is_bound_to_what_it_reaches')],
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
    ]
