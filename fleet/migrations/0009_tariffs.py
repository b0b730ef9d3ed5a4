import django.contrib.postgres.fields
import django.db.models.deletion
import fleet.tariffs.models
import psqlextra.manager.manager
from django.db import migrations, models


# The price of a site becomes a fixed tariff that is valid at all times.
TO_TARIFFS = """
    INSERT INTO fleet_tariff (site_id, valid_from, kind, price_per_kwh)
    SELECT id, NULL, 'fixed', tariff_per_kwh FROM fleet_site WHERE tariff_per_kwh IS NOT NULL
"""
# The other way, the fixed tariff in force, if it has such a price as a site could have.
TO_SITES = """
    UPDATE fleet_site SET tariff_per_kwh = in_force.price_per_kwh
    FROM (
        SELECT DISTINCT ON (tariff.site_id) tariff.*
        FROM fleet_tariff AS tariff
        INNER JOIN fleet_site AS site ON site.id = tariff.site_id
        WHERE coalesce(tariff.valid_from <= (now() AT TIME ZONE site.time_zone)::date, true)
        ORDER BY tariff.site_id, tariff.valid_from DESC NULLS LAST
    ) AS in_force
    WHERE
        in_force.site_id = fleet_site.id
        AND in_force.kind = 'fixed'
        AND in_force.price_per_kwh >= 0
        AND in_force.price_per_kwh < 9999.99995
"""
# A site that the new version adds has no such price.
FORGET = "UPDATE fleet_site SET tariff_per_kwh = NULL"


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0008_clock_offsets'),
    ]

    operations = [
        migrations.CreateModel(
            name='Tariff',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('valid_from', models.DateField(blank=True, help_text="first day, in the site's time zone; leave empty for all times before the next tariff", null=True, verbose_name='valid from')),
                ('kind', models.CharField(choices=[('fixed', 'fixed: one price at all times'), ('time_of_use', 'time of use: prices by weekday and local time'), ('series', 'series: the prices that were sent or imported for the site')], default='fixed', max_length=16)),
                ('price_per_kwh', fleet.tariffs.models.PriceField(blank=True, decimal_places=6, help_text='of a fixed tariff; in a time-of-use tariff, the price where no rule applies: leave empty for none', max_digits=12, null=True, verbose_name='price, per kWh')),
                ('site', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='tariffs', to='fleet.site')),
            ],
            options={
                'ordering': ['site__name', models.OrderBy(models.F('valid_from'), nulls_first=True)],
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.CreateModel(
            name='TariffRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('weekdays', django.contrib.postgres.fields.ArrayField(base_field=models.SmallIntegerField(choices=[(1, 'mon'), (2, 'tue'), (3, 'wed'), (4, 'thu'), (5, 'fri'), (6, 'sat'), (7, 'sun')]), help_text='days on which it starts', size=None, validators=[fleet.tariffs.models.validate_weekdays])),
                ('start', models.TimeField(help_text='local time, at a full quarter hour', validators=[fleet.tariffs.models.validate_quarter_hour])),
                ('end', models.TimeField(help_text='local time; on the next day, if it is not after the start: 00:00 is midnight at the end of the day', validators=[fleet.tariffs.models.validate_quarter_hour])),
                ('price_per_kwh', fleet.tariffs.models.PriceField(decimal_places=6, max_digits=12, verbose_name='price, per kWh')),
                ('tariff', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rules', to='fleet.tariff')),
            ],
            options={
                'ordering': ['tariff', 'pk'],
                'abstract': False,
                'base_manager_name': 'objects',
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.CreateModel(
            name='SeriesPrice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('starts_at', models.DateTimeField(validators=[fleet.tariffs.models.validate_quarter_hour])),
                ('price_per_kwh', fleet.tariffs.models.PriceField(decimal_places=6, max_digits=12)),
                ('site', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='series_prices', to='fleet.site')),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'objects',
                'constraints': [models.UniqueConstraint(fields=('site', 'starts_at'), name='series_price_once_per_quarter_hour')],
            },
            managers=[
                ('objects', psqlextra.manager.manager.PostgresManager()),
            ],
        ),
        migrations.AddConstraint(
            model_name='tariff',
            constraint=models.UniqueConstraint(fields=('site', 'valid_from'), name='tariff_once_per_site_and_day', nulls_distinct=False, violation_error_code='not_unique', violation_error_message='This site already has a tariff from this day on'),
        ),
        migrations.AddConstraint(
            model_name='tariff',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'fixed'), ('price_per_kwh__isnull', True), _negated=True), models.Q(('kind', 'series'), ('price_per_kwh__isnull', False), _negated=True)), name='tariff_has_the_price_of_its_kind', violation_error_message='The price does not fit the kind of tariff'),
        ),
        migrations.RunSQL(
            """
            ALTER TABLE fleet_seriesprice ADD CONSTRAINT series_price_goes_with_its_site
            FOREIGN KEY (site_id) REFERENCES fleet_site (id) ON DELETE CASCADE
            """,
            migrations.RunSQL.noop,
        ),
        migrations.RunSQL(TO_TARIFFS, [FORGET, TO_SITES]),
        # The column stays: the previous version reads it while both run.
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.RemoveField(model_name='site', name='tariff_per_kwh')],
        ),
    ]
