from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('analytics', '0005_unlinked_day'),
    ]

    operations = [
        migrations.AlterField(
            model_name='meterhour',
            name='energy_register',
            field=models.CharField(choices=[('interval', 'interval: energy since the previous reading'), ('counter', 'counter: a lifetime register'), ('session_counter', 'session counter: starts again at each plug-in')], max_length=16),
        ),
        migrations.AlterField(
            model_name='vehiclehour',
            name='energy_register',
            field=models.CharField(choices=[('interval', 'interval: energy since the previous reading'), ('counter', 'counter: a lifetime register'), ('session_counter', 'session counter: starts again at each plug-in')], max_length=16),
        ),
    ]
