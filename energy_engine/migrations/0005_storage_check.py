"""A table in which every row takes a new page, to check for free disk space."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("energy_engine", "0004_failed_sign_ins")]

    operations = [
        migrations.CreateModel(
            name="StorageCheck",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("padding", models.CharField(default="x" * 450, max_length=450)),
            ],
            options={"default_permissions": ()},
        ),
        migrations.RunSQL(
            "ALTER TABLE energy_engine_storagecheck SET (fillfactor = 10)",
            "ALTER TABLE energy_engine_storagecheck RESET (fillfactor)",
        ),
    ]
