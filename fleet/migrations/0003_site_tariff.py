import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0002_settled_before'),
    ]

    operations = [
        migrations.AddField(
            model_name='site',
            name='currency',
            field=models.CharField(default='EUR', help_text='ISO 4217 code, such as EUR', max_length=3, validators=[django.core.validators.RegexValidator('^[A-Z]{3}\\Z', 'must be three capital letters, such as EUR', 'invalid_format')]),
        ),
        migrations.AddField(
            model_name='site',
            name='tariff_per_kwh',
            field=models.DecimalField(blank=True, decimal_places=4, help_text='price of a kWh of AC at this site; used for the cost of losses', max_digits=8, null=True, validators=[django.core.validators.MinValueValidator(0)], verbose_name='tariff, per kWh'),
        ),
        migrations.AlterField(
            model_name='meter',
            name='max_power_kw',
            field=models.FloatField(blank=True, help_text='energy that implies more power is excluded as suspect', null=True, validators=[django.core.validators.MinValueValidator(0)], verbose_name='max power, kW'),
        ),
        migrations.AlterField(
            model_name='vehicle',
            name='max_power_kw',
            field=models.FloatField(blank=True, help_text='energy that implies more power is excluded as suspect', null=True, validators=[django.core.validators.MinValueValidator(0)], verbose_name='max power, kW'),
        ),
    ]
