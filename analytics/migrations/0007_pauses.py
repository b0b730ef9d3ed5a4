from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('analytics', '0006_curve'),
    ]

    operations = [
        migrations.AddField(
            model_name='metercadence',
            name='longest_pause_seconds',
            field=models.FloatField(null=True),
        ),
        migrations.AddField(
            model_name='metercadence',
            name='pauses_learned_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='vehiclecadence',
            name='longest_pause_seconds',
            field=models.FloatField(null=True),
        ),
        migrations.AddField(
            model_name='vehiclecadence',
            name='pauses_learned_at',
            field=models.DateTimeField(null=True),
        ),
    ]
