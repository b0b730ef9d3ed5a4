from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='meterlivestate',
            name='settled_before',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='vehiclelivestate',
            name='settled_before',
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
