"""Group permissions for tariffs: all groups can view them, Fleet managers change them."""

from importlib import import_module

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

groups = import_module("energy_engine.migrations.0001_groups")
MODELS = ["tariff", "tariffrule"]
CHANGED = [f"fleet.{verb}_{model}" for model in MODELS for verb in ("add", "change", "delete")]


def permit(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    groups._make_permissions(apps, "fleet")
    seen = groups._views(apps, "fleet", MODELS)
    for group in apps.get_model("auth", "Group").objects.filter(name__in=groups.CHANGED):
        changed = CHANGED if group.name == "Fleet manager" else []
        group.permissions.add(*seen, *(groups._permission(apps, name) for name in changed))


def take_back(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    permissions = apps.get_model("auth", "Permission").objects
    permissions.filter(content_type__app_label="fleet", content_type__model__in=MODELS).delete()


class Migration(migrations.Migration):
    dependencies = [("energy_engine", "0008_hints"), ("fleet", "0009_tariffs")]

    operations = [migrations.RunPython(permit, take_back)]
