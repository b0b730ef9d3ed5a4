import psqlextra.manager.manager
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('energy_engine', '0002_keys'),
    ]

    operations = [
        migrations.CreateModel(
            name='JobFailure',
            fields=[
                ('job', models.CharField(max_length=100, primary_key=True, serialize=False)),
                ('since', models.DateTimeField()),
                ('failed_at', models.DateTimeField()),
                ('failures', models.PositiveIntegerField()),
                ('reason', models.CharField(max_length=300)),
                ('recovered_at', models.DateTimeField(null=True)),
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
