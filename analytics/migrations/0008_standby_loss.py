import django.core.validators
from django.db import migrations, models

# The version before does not know the kind.
REMOVE_FAULTS = """
    DELETE FROM analytics_webhookdelivery
    USING analytics_faultchange AS change, analytics_fault AS fault
    WHERE change_id = change.id AND change.fault_id = fault.id AND fault.kind = 'standby_loss';
    DELETE FROM analytics_faultchange
    USING analytics_fault AS fault
    WHERE fault_id = fault.id AND fault.kind = 'standby_loss';
    DELETE FROM analytics_fault WHERE kind = 'standby_loss';
"""


class Migration(migrations.Migration):

    dependencies = [
        ('analytics', '0007_pauses'),
    ]

    operations = [
        migrations.AddField(
            model_name='faultthresholds',
            name='standby_closes_kwh',
            field=models.FloatField(db_default=1.5, default=1.5, help_text='and closes below, or when the vehicle charges', validators=[django.core.validators.MinValueValidator(0)], verbose_name='standby loss closes, kWh'),
        ),
        migrations.AddField(
            model_name='faultthresholds',
            name='standby_opens_kwh',
            field=models.FloatField(db_default=2, default=2, help_text='a fault opens when a vehicle takes no DC in 24 hours, although its meter draws this much AC', validators=[django.core.validators.MinValueValidator(0.1)], verbose_name='standby loss opens, kWh'),
        ),
        migrations.AlterField(
            model_name='fault',
            name='kind',
            field=models.CharField(choices=[('low_efficiency', 'low efficiency'), ('standby_loss', 'standby loss'), ('hot_battery', 'battery too hot'), ('silent', 'device silent'), ('site_silent', 'many devices silent')], max_length=16),
        ),
        migrations.RunSQL(migrations.RunSQL.noop, REMOVE_FAULTS),
    ]
