from pathlib import Path

from django.db import migrations

FUNCTIONS = Path(__file__).parents[1] / "sql" / "curve.sql"


class Migration(migrations.Migration):
    # Shares no longer depend on a cadence that a declared interval overrides.

    dependencies = [("analytics", "0010_hints")]

    operations = [migrations.RunSQL(FUNCTIONS.read_text(), migrations.RunSQL.noop)]
