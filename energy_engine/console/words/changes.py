"""Changes as the audit log stores them: each field with its value before and after."""

import json
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, time
from typing import Any, Final

from django.contrib.auth.models import Permission
from django.db.models import Model, QuerySet
from django.forms import BaseForm, ModelChoiceField

NOTHING: Final = "-"
_SECRET: Final = ("password", "secret")


def step(label: str, before: Any, after: Any) -> str:
    return f"{label}: {in_words(before)} → {in_words(after)}"


def message(steps: list[str], is_new: bool = False) -> str:
    """Return `steps` in the format of Django's own log, so that Django's pages can show them."""
    changed = [{"changed": {"fields": steps}}] if steps else []
    # Not escaped: people search the log for words with non-ASCII letters.
    return json.dumps([{"added": {}}, *changed] if is_new else changed, ensure_ascii=False)


def steps_of(text: str) -> list[str]:
    """Return the steps of a message; a message from elsewhere is returned as its text."""
    try:
        parts = json.loads(text)
        fields = [part["changed"]["fields"] for part in parts if "changed" in part]
        return [str(field) for of_part in fields for field in of_part]
    except (ValueError, TypeError, KeyError):
        return [text] if text else []


def in_words(value: Any) -> str:
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Permission):
        return value.name
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, time):
        return f"{value:%H:%M}"
    return str(value)


def form_steps(form: BaseForm, is_new: bool, without: Collection[str] = ()) -> list[str]:
    """Return the changes of a valid form; for a new object, all its values."""
    found = list(form.fields) if is_new else form.changed_data
    names = [name for name in found if name not in without]
    steps = [_field_step(form, name, is_new) for name in names if not _is_secret(name)]
    if any(map(_is_secret, names)) and not is_new:
        steps.append("Password: changed")
    return [text for text in steps if text]


def inline_steps(formsets: Iterable[Any]) -> list[str]:
    """Return the changes of saved inline forms, each after the name of its object."""
    steps = []
    for formset in formsets:
        for form in formset.forms:
            if form in formset.deleted_forms:
                own = object_steps(form.instance)
            else:
                # Not the reference to the object of the page, and the tick for a deletion.
                is_new, without = form in formset.extra_forms, {formset.fk.name, "DELETE"}
                own = form_steps(form, is_new, without) if form.has_changed() else []
            steps += [f"{form.instance}: {text}" for text in own]
    return steps


def object_steps(gone: Model) -> list[str]:
    """Return the values of an object that is about to be deleted."""
    fields = [
        field
        for field in gone._meta.fields
        if not field.primary_key and field.editable and not _is_secret(field.name)
    ]
    return [
        step(_title(field.verbose_name), getattr(gone, field.name), None)
        for field in fields
        if getattr(gone, field.name) not in (None, "")
    ]


def _field_step(form: BaseForm, name: str, is_new: bool) -> str:
    field = form.fields.get(name)
    label = _title((field and field.label) or name)
    before = None if field is None or is_new else form.get_initial_for_field(field, name)
    after = form.cleaned_data.get(name)
    if isinstance(after, QuerySet | list | tuple):
        return _set_step(label, before or [], after)
    if isinstance(field, ModelChoiceField) and before is not None:
        before = _chosen(field, before)
    return "" if is_new and after in (None, "") else step(label, before, after)


def _set_step(label: str, before: Iterable[Any], after: Iterable[Any]) -> str:
    """Return what was added and removed: a group's full permission list would be unreadable."""
    old, new = set(map(in_words, before)), set(map(in_words, after))
    told = [("added", new - old), ("removed", old - new)]
    words = [f"{verb} {', '.join(sorted(names))}" for verb, names in told if names]
    return f"{label}: {'; '.join(words)}" if words else ""


def _chosen(field: "ModelChoiceField[Any]", key: Any) -> Any:
    if isinstance(key, Model) or field.queryset is None:
        return key
    # Also finds objects that can no longer be chosen.
    found = field.queryset.model._base_manager.filter(**{field.to_field_name or "pk": key})
    return found.first() or key


def _title(label: Any) -> str:
    text = str(label)
    return text[:1].upper() + text[1:]


def _is_secret(name: str) -> bool:
    return any(word in name for word in _SECRET)
