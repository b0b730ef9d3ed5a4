"""Group permissions for device defaults: all groups can view them, Fleet managers change them."""

from importlib import import_module

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

groups = import_module("energy_engine.migrations.0001_groups")
CHANGED = [f"fleet.{verb}_devicedefaults" for verb in ("add", "change", "delete")]


def permit(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    groups._make_permissions(apps, "fleet")
    seen = groups._views(apps, "fleet", ["devicedefaults"])
    for group in apps.get_model("auth", "Group").objects.filter(name__in=groups.CHANGED):
        changed = CHANGED if group.name == "Fleet manager" else []
        group.permissions.add(*seen, *(groups._permission(apps, name) for name in changed))


def take_back(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    permissions = apps.get_model("auth", "Permission").objects
    permissions.filter(
        content_type__app_label="fleet", content_type__model="devicedefaults"
    ).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("energy_engine", "0006_first_passwords"),
        ("fleet", "0007_device_defaults"),
    ]

    operations = [migrations.RunPython(permit, take_back)]
