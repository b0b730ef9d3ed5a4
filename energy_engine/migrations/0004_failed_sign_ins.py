"""Group permissions for failed sign-ins: all groups can view them; Operators unlock users."""

from importlib import import_module

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

groups = import_module("energy_engine.migrations.0001_groups")


def permit(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    groups._make_permissions(apps, "energy_engine")
    seen = groups._views(apps, "energy_engine", ["failedsignin"])
    frees = groups._permission(apps, "energy_engine.delete_failedsignin")
    for group in apps.get_model("auth", "Group").objects.filter(name__in=groups.CHANGED):
        group.permissions.add(*seen, *([frees] if group.name == "Operator" else []))


def take_back(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    permissions = apps.get_model("auth", "Permission").objects
    permissions.filter(
        content_type__app_label="energy_engine", content_type__model="failedsignin"
    ).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("axes", "0010_accessattemptexpiration"),
        ("energy_engine", "0003_job_failures"),
    ]

    operations = [
        migrations.CreateModel(
            name="FailedSignIn",
            fields=[],
            options={
                "verbose_name": "failed sign-in",
                "proxy": True,
                "default_permissions": ("view", "delete"),
                "indexes": [],
                "constraints": [],
            },
            bases=("axes.accessattempt",),
        ),
        migrations.RunPython(permit, take_back),
    ]
