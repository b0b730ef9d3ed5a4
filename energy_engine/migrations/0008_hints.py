"""Group permissions for hints: all groups can view them; some groups can dismiss them."""

from importlib import import_module

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

groups = import_module("energy_engine.migrations.0001_groups")
DISMISS = ["Fleet manager", "Operator"]


def permit(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    groups._make_permissions(apps, "analytics")
    seen = groups._views(apps, "analytics", ["hint"])
    for group in apps.get_model("auth", "Group").objects.filter(name__in=groups.CHANGED):
        changed = ["analytics.change_hint"] if group.name in DISMISS else []
        group.permissions.add(*seen, *(groups._permission(apps, name) for name in changed))


def take_back(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    permissions = apps.get_model("auth", "Permission").objects
    permissions.filter(content_type__app_label="analytics", content_type__model="hint").delete()


class Migration(migrations.Migration):
    dependencies = [("energy_engine", "0007_device_defaults"), ("analytics", "0010_hints")]

    operations = [migrations.RunPython(permit, take_back)]
