"""Change settings of the devices selected in a list: a form, a confirmation, then the change."""

from collections.abc import Sequence
from typing import Any, Final, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldBooleanWidget

from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.words import changes
from fleet.registry.changes import SETTINGS, Changed, InvalidSettings, Outcome, change_devices

# An external id is for one device.
_FIELDS: Final = tuple(name for name in SETTINGS if name != "external_id")
_LOGGED_AT_ONCE: Final = 1_000


class SettingsForm(forms.Form):
    """The settings of devices, each with a tick: only ticked ones are changed."""

    apply_defaults = forms.BooleanField(
        label="Also set the defaults of new devices at this site",
        required=False,
        widget=UnfoldBooleanWidget,
        help_text="those of its device defaults; settings that are ticked below come first",
    )

    def __init__(self, admin_page: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._model_fields = {name: admin_page.model._meta.get_field(name) for name in _FIELDS}
        for name, field in self._model_fields.items():
            self.fields[name] = admin_page.formfield_for_dbfield(field, request)
            self.fields[name].required = False
            if isinstance(widget := self.fields[name].widget, RelatedFieldWidgetWrapper):
                self.fields[name].widget = widget.widget  # without buttons that leave the page
            self.fields[_tick(name)] = forms.BooleanField(
                label=f"Change {field.verbose_name}", required=False, widget=UnfoldBooleanWidget
            )

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return each setting with its tick, for the template."""
        return [{"name": name, "tick": self[_tick(name)], "field": self[name]} for name in _FIELDS]

    @property
    def values(self) -> dict[str, Any]:
        """Return the ticked settings of a valid form."""
        ticked = (name for name in _FIELDS if self.cleaned_data[_tick(name)])
        return {name: self.cleaned_data[name] for name in ticked}

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        ticked = [name for name in _FIELDS if cleaned.get(_tick(name))]
        for name in _FIELDS:
            if name not in ticked:
                self.errors.pop(name, None)
            elif name not in self.errors:
                self._require_valid(name, cleaned[name])
        if not ticked:
            raise ValidationError("Tick at least one setting to change")
        if cleaned.get("apply_defaults") and "site" not in ticked:
            self.add_error("apply_defaults", "Tick the site, whose defaults are to be set")
        return cleaned

    def _require_valid(self, name: str, value: Any) -> None:
        if isinstance(value, Model):
            return  # a site, which its field has found
        try:
            self.cleaned_data[name] = self._model_fields[name].clean(value, None)
        except ValidationError as error:
            self.add_error(name, error)


class SettingsOfMany(ConsoleAdmin):
    """A list with the action that changes settings of the selected devices."""

    actions = ["change_settings"]

    @admin.action(description="Change settings of the selected devices", permissions=["change"])
    def change_settings(self, request: HttpRequest, selected: QuerySet[Any]) -> HttpResponse | None:
        step = request.POST.get("step")
        form = SettingsForm(self, request, request.POST if step else None)
        if not step or not form.is_valid():
            return self._page(request, selected, form)
        # The list's own joins and annotations are not needed, and would be locked.
        devices = self.model.objects.filter(pk__in=selected.order_by().values("pk"))
        try:
            with transaction.atomic():
                outcome = self._changed(devices, form)
                is_confirmed = request.POST.get("matched") == str(outcome.matched)
                if step != "apply" or not is_confirmed:
                    transaction.set_rollback(True)
                    return self._page(request, selected, form, outcome, step == "apply")
                self._log_all(request, outcome.changed)
        except InvalidSettings as error:
            for name, errors in error.errors.items():
                words = " ".join(message for one in errors for message in one.messages)
                form.add_error(name, f"{words} ({error.whose})")
            return self._page(request, selected, form)
        self._say_done(request, outcome)
        return None

    def _changed(self, devices: QuerySet[Any], form: SettingsForm) -> Outcome:
        apply_defaults = form.cleaned_data["apply_defaults"]
        return change_devices(devices, form.values, apply_defaults=apply_defaults)

    def _noun(self, number: int) -> str:
        return str(self.opts.verbose_name if number == 1 else self.opts.verbose_name_plural)

    def _say_done(self, request: HttpRequest, outcome: Outcome) -> None:
        number, kinds = len(outcome.changed), self.opts.verbose_name_plural
        told = f"Settings of {number:,} of {outcome.matched:,} {kinds} changed"
        if number:
            told += "; the audit log has the former ones"
        self.message_user(request, told, messages.SUCCESS)

    def _log_all(self, request: HttpRequest, changed: Sequence[Changed]) -> None:
        """Log each device, with its former settings."""
        kind = ContentType.objects.get_for_model(self.model)
        entries = [
            LogEntry(
                user_id=cast("int", request.user.pk),
                content_type=kind,
                object_id=change.device.pk,
                object_repr=str(change.device),
                action_flag=CHANGE,
                change_message=changes.message(_steps(change)),
            )
            for change in changed
        ]
        LogEntry.objects.bulk_create(entries, batch_size=_LOGGED_AT_ONCE)

    def _page(
        self,
        request: HttpRequest,
        selected: QuerySet[Any],
        form: SettingsForm,
        outcome: Outcome | None = None,
        has_grown: bool = False,
    ) -> HttpResponse:
        is_across = request.POST.get("select_across") == "1"
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
        matched = outcome.matched if outcome else selected.count()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media + form.media,
            "title": "Change settings",
            "form": form,
            "outcome": outcome,
            "has_grown": has_grown,
            "steps": _new_values(form, outcome) if outcome else [],
            "matched": matched,
            "number": len(outcome.changed) if outcome else 0,
            "noun": self._noun(matched),
            "noun_of_number": self._noun(len(outcome.changed) if outcome else 0),
            "is_across": is_across,
            "selected": chosen[:1] if is_across else chosen,
            "selected_name": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "console/change_settings.html", context)


def _tick(name: str) -> str:
    return f"change_{name}"


def _title(label: Any) -> str:
    return str(label)[:1].upper() + str(label)[1:]


def _steps(change: Changed) -> list[str]:
    return [
        changes.step(
            _title(cast("Any", change.device._meta.get_field(name)).verbose_name),
            before,
            getattr(change.device, name),
        )
        for name, before in change.before.items()
    ]


def _new_values(form: SettingsForm, outcome: Outcome) -> list[tuple[str, str, int]]:
    """Return each setting, its new value, and how many devices had another one."""
    values = dict(form.values)
    for change in outcome.changed:  # with the defaults of the site
        values |= {name: getattr(change.device, name) for name in change.before}
    return [
        (
            _title(form.fields[name].label),
            changes.in_words(value),
            sum(name in change.before for change in outcome.changed),
        )
        for name, value in values.items()
    ]
