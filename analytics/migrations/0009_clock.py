import django.core.validators
from django.db import migrations, models

# The version before does not know the kind.
REMOVE_FAULTS = """
    DELETE FROM analytics_webhookdelivery
    USING analytics_faultchange AS change, analytics_fault AS fault
    WHERE change_id = change.id AND change.fault_id = fault.id AND fault.kind = 'clock';
    DELETE FROM analytics_faultchange
    USING analytics_fault AS fault
    WHERE fault_id = fault.id AND fault.kind = 'clock';
    DELETE FROM analytics_fault WHERE kind = 'clock';
"""


class Migration(migrations.Migration):

    dependencies = [
        ('analytics', '0008_standby_loss'),
    ]

    operations = [
        migrations.AddField(
            model_name='faultthresholds',
            name='clock_opens_hours',
            field=models.FloatField(db_default=24, default=24, help_text='a fault opens when the timestamps of a device are this far behind', validators=[django.core.validators.MinValueValidator(1)], verbose_name='clock opens, hours'),
        ),
        migrations.AlterField(
            model_name='fault',
            name='kind',
            field=models.CharField(choices=[('low_efficiency', 'low efficiency'), ('standby_loss', 'standby loss'), ('hot_battery', 'battery too hot'), ('silent', 'device silent'), ('site_silent', 'many devices silent'), ('clock', 'clock behind')], max_length=16),
        ),
        migrations.RunSQL(migrations.RunSQL.noop, REMOVE_FAULTS),
    ]
