"""The user groups and their permissions.

All groups can view everything; each group decides what its members can change. Existing groups of
the same name are left as they are, and later edits stay, because this runs once. Reversing it
removes the groups.

Django creates permissions after all migrations, so an empty database has none yet. Those of the
models known so far are created here, by Django's own code; later migrations find them in place.
"""

from django.apps.registry import Apps
from django.contrib.auth.management import create_permissions
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

SEEN = {
    "fleet": ["site", "meter", "vehicle", "vehiclemeterlink"],
    "analytics": ["fault", "faultthresholds", "webhook"],
    "auth": ["user", "group"],
    "admin": ["logentry"],
    "procrastinate": ["procrastinatejob"],
}
CHANGED = {
    "Fleet manager": [
        *("fleet.add_vehiclemeterlink", "fleet.change_vehiclemeterlink"),
        *("fleet.add_site", "fleet.change_site", "fleet.delete_site"),
        "analytics.change_fault",
        "analytics.add_faultthresholds",
        "analytics.change_faultthresholds",
        "analytics.delete_faultthresholds",
        *("analytics.add_webhook", "analytics.change_webhook", "analytics.delete_webhook"),
    ],
    "Analyst": [],
    "Operator": [
        *("fleet.add_vehicle", "fleet.change_vehicle"),
        *("fleet.add_meter", "fleet.change_meter"),
        *("auth.add_user", "auth.change_user"),
    ],
}


def make_groups(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for label in SEEN:
        _make_permissions(apps, label)
    seen = [pk for label, models in SEEN.items() for pk in _views(apps, label, models)]
    for name, changed in CHANGED.items():
        group, is_new = apps.get_model("auth", "Group").objects.get_or_create(name=name)
        if is_new:
            group.permissions.set([*seen, *(_permission(apps, name) for name in changed)])


def remove_groups(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    apps.get_model("auth", "Group").objects.filter(name__in=CHANGED).delete()


def _make_permissions(apps: Apps, label: str) -> None:
    app = apps.get_app_config(label)
    # Apps of a migration have no modules; without one, Django takes an app to have no models.
    app.models_module = True
    create_permissions(app, verbosity=0, apps=apps)
    app.models_module = None


def _views(apps: Apps, label: str, models: list[str]) -> list[int]:
    permissions = apps.get_model("auth", "Permission").objects.filter(
        content_type__app_label=label, codename__in=[f"view_{model}" for model in models]
    )
    return list(permissions.values_list("pk", flat=True))


def _permission(apps: Apps, name: str) -> int:
    label, codename = name.split(".")
    permissions = apps.get_model("auth", "Permission").objects
    return permissions.get(content_type__app_label=label, codename=codename).pk


class Migration(migrations.Migration):
    dependencies = [
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("analytics", "0002_faults"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("fleet", "0003_site_tariff"),
        ("procrastinate", "0041_post_retry_failed_job"),
    ]

    operations = [migrations.RunPython(make_groups, remove_groups)]
