import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('analytics', '0003_registers'),
    ]

    operations = [
        migrations.AddField(
            model_name='webhook',
            name='tells_of_jobs',
            field=models.BooleanField(db_default=True, default=True),
        ),
        migrations.AddField(
            model_name='webhookdelivery',
            name='job',
            field=models.CharField(blank=True, db_default='', max_length=120),
        ),
        migrations.AlterField(
            model_name='webhookdelivery',
            name='change',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, to='analytics.faultchange'),
        ),
        # Before, there were messages about faults alone.
        migrations.RunSQL(
            migrations.RunSQL.noop, 'DELETE FROM analytics_webhookdelivery WHERE change_id IS NULL'
        ),
    ]
