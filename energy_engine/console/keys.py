"""API keys: who may send readings, read figures and manage the fleet through the API."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.postgres.forms import SimpleArrayField
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldBooleanWidget

from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import column
from energy_engine.console.words import changes
from energy_engine.console.words.badges import second
from energy_engine.console.words.labels import label
from fleet.access.keys import NotUsable, issue, revoke, rotate
from fleet.device_ids import DEVICE_ID_PATTERN, DEVICE_ID_RULE
from fleet.models import ApiKey, Reach, Scope


class _DeviceIds(SimpleArrayField):
    """Ids of devices, one in a line."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            forms.RegexField(
                rf"^{DEVICE_ID_PATTERN}\Z",
                max_length=64,
                error_messages={"invalid": DEVICE_ID_RULE},
            ),
            delimiter="\n",
            required=False,
            label=f"{kind.capitalize()}s",
            widget=UnfoldAdminTextareaWidget({"rows": 3}),
            help_text=f"ids, one in a line; for the reach “{Reach.DEVICES.label}”",
        )

    def to_python(self, value: Any) -> Any:
        return super().to_python("\n".join(str(value).split()) if value else value)


class KeyForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """What a new key opens; the key itself is made here, and typed in by nobody."""

    may_ingest = forms.BooleanField(
        label=Scope.INGEST.label, required=False, widget=UnfoldBooleanWidget
    )
    may_read = forms.BooleanField(
        label=Scope.READ.label, required=False, widget=UnfoldBooleanWidget
    )
    may_manage = forms.BooleanField(
        label=Scope.MANAGE.label, required=False, widget=UnfoldBooleanWidget
    )
    meter_ids = _DeviceIds("meter")
    vehicle_ids = _DeviceIds("vehicle")

    class Meta:
        model = ApiKey
        fields = ["name", "reach", "site", "meter_ids", "vehicle_ids", "expires_at"]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        self.instance.scopes = [scope for scope in Scope if cleaned.get(f"may_{scope}")]
        if not self.instance.scopes:
            raise ValidationError("A key must be good for something: choose what it may do")
        reach = cleaned.get("reach")
        listed = bool(cleaned.get("meter_ids") or cleaned.get("vehicle_ids"))
        if (reach == Reach.SITE) != bool(cleaned.get("site")):
            self.add_error("site", "A site belongs to the reach of a site, and to no other")
        if (reach == Reach.DEVICES) != listed:
            self.add_error(
                "reach", "Devices belong to the reach of listed devices, and to no other"
            )
        return cleaned


def _state(key: ApiKey) -> str:
    if key.revoked_at:
        return label("revoked", "danger")
    if key.expires_at and key.expires_at <= timezone.now():
        return label("expired", "")
    return label("good", "success")


def _reach(key: ApiKey) -> str:
    """Return the devices of a key, in words."""
    if key.site:
        return f"site {key.site}"
    devices = [*key.meter_ids, *key.vehicle_ids]
    if not devices:
        return "all devices"
    return devices[0] if len(devices) == 1 else f"{devices[0]} and {len(devices) - 1} more"


def _may_give_away(request: HttpRequest, scope: str) -> bool:
    """Return whether a user may do himself what a key of `scope` may; links have a permission."""
    return scope != Scope.MANAGE or request.user.has_perm("fleet.change_vehiclemeterlink")


def _require_no_more_than_his_own(request: HttpRequest, key: ApiKey) -> None:
    """Errors: `PermissionDenied`, where the token of `key` would open more than the user may."""
    if not all(_may_give_away(request, scope) for scope in key.scopes):
        raise PermissionDenied


@admin.register(ApiKey)
class ApiKeyAdmin(ConsoleAdmin):
    """A key is shown once, when it is made: afterwards not even to those who made it."""

    form = KeyForm
    add_fieldsets = [
        (None, {"fields": ["name"]}),
        ("May", {"fields": ["may_ingest", "may_read", "may_manage"]}),
        ("For", {"fields": ["reach", "site", "meter_ids", "vehicle_ids"]}),
        ("Until", {"fields": ["expires_at"]}),
    ]
    list_display = fields = readonly_fields = [
        column("Name", "name"),
        column("Begins with", "prefix"),
        admin.display(description="State")(_state),
        admin.display(description="May")(lambda key: ", ".join(key.scopes)),
        admin.display(description="For")(_reach),
        column("Last used, UTC", "last_used_at", second),
        column("Expires, UTC", "expires_at", second),
        column("Made, UTC", "created_at", second),
    ]
    list_filter = ["reach", "site"]
    list_select_related = ["site"]
    search_fields = ["name", "prefix"]
    ordering = ["-created_at"]
    actions_detail = ["rotate_key", "revoke_key"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return list(self.readonly_fields) if obj else []

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        if obj:
            return [(None, {"fields": self.fields})]
        if _may_give_away(request, Scope.MANAGE):
            return self.add_fieldsets
        return [
            (
                title,
                options | {"fields": [name for name in options["fields"] if name != "may_manage"]},
            )
            for title, options in self.add_fieldsets
        ]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_retire_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        return request.user.has_perm("fleet.change_apikey")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        _require_no_more_than_his_own(request, obj)
        obj.token = issue(obj)

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: Any = None
    ) -> HttpResponse:
        return self._page(request, obj, token=obj.token)

    @action(description="Rotate …", icon="autorenew", permissions=["retire"])
    def rotate_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = self._key(request, object_id)
        _require_no_more_than_his_own(request, key)
        if request.method != "POST":
            question = (
                f"Make a successor of {key}? Both are good for a week: "
                "time to give the new one to whoever uses it."
            )
            return self._page(request, key, question=question, verb="Make a successor")
        try:
            with transaction.atomic():
                made = rotate(key)
                self.log_change(request, key, changes.message([f"Successor: {made.key}"]))
        except NotUsable:
            return self._back(request, key, "This key is revoked, or has expired")
        return self._page(request, made.key, token=made.token)

    @action(description="Revoke …", icon="block", permissions=["retire"])
    def revoke_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = self._key(request, object_id)
        if request.method != "POST":
            question = f"Revoke {key}? Whoever uses it is refused within seconds, for good."
            return self._page(request, key, question=question, verb="Revoke the key")
        with transaction.atomic():
            revoke(key)
            self.log_change(
                request, key, changes.message([changes.step("State", "good", "revoked")])
            )
        return self._back(request, key, f"{key} opens nothing any more", messages.SUCCESS)

    def _key(self, request: HttpRequest, object_id: str) -> ApiKey:
        key: ApiKey | None = self.get_object(request, unquote(object_id))
        if key is None:
            raise Http404
        return key

    def _back(
        self, request: HttpRequest, key: ApiKey, words: str, level: int = messages.ERROR
    ) -> HttpResponse:
        self.message_user(request, words, level)
        return HttpResponseRedirect(reverse("admin:fleet_apikey_change", args=[key.pk]))

    def _page(self, request: HttpRequest, key: ApiKey, **context: Any) -> HttpResponse:
        common = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": key,
            "title": "API key",
            "key": key,
        }
        return TemplateResponse(request, "console/key_token.html", common | context)
