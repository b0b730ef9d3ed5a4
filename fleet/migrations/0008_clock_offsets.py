from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

# What an interrupted run left behind is not valid, and in the way.
DROP_INVALID = "DROP INDEX IF EXISTS meter_clock_offset, vehicle_clock_offset"


class Migration(migrations.Migration):
    # Devices register themselves while the indexes are built.
    atomic = False

    dependencies = [
        ('fleet', '0007_device_defaults'),
    ]

    operations = [
        migrations.RunSQL(DROP_INVALID, migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name='meter',
            index=models.Index(condition=models.Q(('clock_offset_seconds', 0), _negated=True), fields=['clock_offset_seconds'], name='meter_clock_offset'),
        ),
        AddIndexConcurrently(
            model_name='vehicle',
            index=models.Index(condition=models.Q(('clock_offset_seconds', 0), _negated=True), fields=['clock_offset_seconds'], name='vehicle_clock_offset'),
        ),
    ]
