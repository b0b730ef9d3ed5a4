from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

import fleet.device_ids

# What an interrupted run left behind is not valid, and in the way.
DROP_INVALID = """
DROP INDEX IF EXISTS
    meter_external_id_lower, meter_id_look_alikes, vehicle_external_id_lower, vehicle_id_look_alikes
"""


class Migration(migrations.Migration):

    # Devices register themselves while the indexes are built.
    atomic = False

    dependencies = [
        ('fleet', '0005_device_fields'),
    ]

    operations = [
        migrations.RunSQL(DROP_INVALID, migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name='meter',
            index=models.Index(fleet.device_ids.ExternalIdKey(models.F('external_id')), condition=models.Q(('external_id__isnull', False)), name='meter_external_id_lower'),
        ),
        AddIndexConcurrently(
            model_name='meter',
            index=models.Index(fleet.device_ids.LookAlikeKey(models.F('meter_id')), name='meter_id_look_alikes'),
        ),
        AddIndexConcurrently(
            model_name='vehicle',
            index=models.Index(fleet.device_ids.ExternalIdKey(models.F('external_id')), condition=models.Q(('external_id__isnull', False)), name='vehicle_external_id_lower'),
        ),
        AddIndexConcurrently(
            model_name='vehicle',
            index=models.Index(fleet.device_ids.LookAlikeKey(models.F('vehicle_id')), name='vehicle_id_look_alikes'),
        ),
    ]
