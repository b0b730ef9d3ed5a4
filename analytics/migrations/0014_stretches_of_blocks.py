from pathlib import Path

from django.db import migrations

FUNCTIONS = Path(__file__).parents[1] / "sql" / "curve.sql"


class Migration(migrations.Migration):
    # Blocks also say in which of their hours there may be gaps. The version before ignores that.

    dependencies = [("analytics", "0013_fault_notes")]

    operations = [migrations.RunSQL(FUNCTIONS.read_text(), migrations.RunSQL.noop)]
