from pathlib import Path

from django.db import migrations

FUNCTIONS = Path(__file__).parents[1] / "sql" / "registers.sql"
DROP_FUNCTIONS = '''
    DROP FUNCTION analytics_meter_before;
    DROP FUNCTION analytics_vehicle_before;
'''


class Migration(migrations.Migration):

    dependencies = [
        ('analytics', '0002_faults'),
        ('ingestion', '0003_archive'),
    ]

    operations = [
        migrations.RunSQL(FUNCTIONS.read_text(), DROP_FUNCTIONS),
    ]
