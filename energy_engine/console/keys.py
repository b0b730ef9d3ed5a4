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
from fleet.access.issuing import NotUsable, issue, revoke, rotate
from fleet.device_ids import DEVICE_ID_PATTERN, DEVICE_ID_RULE
from fleet.models import ApiKey, Reach, Scope


class _DeviceIds(SimpleArrayField):
    """Device ids, one per line."""

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
            help_text=f"one id per line; only for the reach “{Reach.DEVICES.label}”",
        )

    def to_python(self, value: Any) -> Any:
        return super().to_python("\n".join(str(value).split()) if value else value)


class KeyForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """The scopes and reach of a new key; the key itself is generated."""

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
        labels = {"expires_at": "Expires at, UTC"}

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        self.instance.scopes = [scope for scope in Scope if cleaned.get(f"may_{scope}")]
        if not self.instance.scopes:
            raise ValidationError("Choose at least one scope")
        reach = cleaned.get("reach")
        listed = bool(cleaned.get("meter_ids") or cleaned.get("vehicle_ids"))
        if (is_of_site := reach == Reach.SITE) != bool(cleaned.get("site")):
            only = f"Choose a site only with the reach “{Reach.SITE.label}”"
            self.add_error("site", "Choose a site" if is_of_site else only)
        if (is_of_devices := reach == Reach.DEVICES) != listed:
            only = f"List device ids only with the reach “{Reach.DEVICES.label}”"
            self.add_error("reach", "List at least one device id" if is_of_devices else only)
        return cleaned


def _state(key: ApiKey) -> str:
    if key.revoked_at:
        return label("revoked", "danger")
    if key.expires_at and key.expires_at <= timezone.now():
        return label("expired", "")
    return label("active", "success")


def _reach(key: ApiKey) -> str:
    """Return a description of a key's devices."""
    if key.site:
        return f"site {key.site}"
    devices = [*key.meter_ids, *key.vehicle_ids]
    if not devices:
        return "all devices"
    return devices[0] if len(devices) == 1 else f"{devices[0]} and {len(devices) - 1} more"


def _may_give_away(request: HttpRequest, scope: str) -> bool:
    """Return whether a user has the permission that `scope` gives; only links have one."""
    return scope != Scope.MANAGE or request.user.has_perm("fleet.change_vehiclemeterlink")


def _require_no_more_than_own(request: HttpRequest, key: ApiKey) -> None:
    """Errors: `PermissionDenied` if `key` would give the user permissions that they lack."""
    if not all(_may_give_away(request, scope) for scope in key.scopes):
        raise PermissionDenied


@admin.register(ApiKey)
class ApiKeyAdmin(ConsoleAdmin):
    """API keys. A key is shown once, when it is created, and never again."""

    form = KeyForm
    add_fieldsets = [
        (None, {"fields": ["name"]}),
        ("Scopes", {"fields": ["may_ingest", "may_read", "may_manage"]}),
        ("Devices", {"fields": ["reach", "site", "meter_ids", "vehicle_ids"]}),
        ("Expiry", {"fields": ["expires_at"]}),
    ]
    list_display = fields = readonly_fields = [
        column("Name", "name"),
        column("Prefix", "prefix"),
        admin.display(description="State")(_state),
        admin.display(description="Scopes")(lambda key: ", ".join(key.scopes)),
        admin.display(description="Devices")(_reach),
        column("Last used, UTC", "last_used_at", second),
        column("Expires, UTC", "expires_at", second),
        column("Created, UTC", "created_at", second),
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
        _require_no_more_than_own(request, obj)
        obj.token = issue(obj)

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: Any = None
    ) -> HttpResponse:
        return self._page(request, obj, token=obj.token)

    @action(description="Rotate …", icon="autorenew", permissions=["retire"])
    def rotate_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = self._key(request, object_id)
        _require_no_more_than_own(request, key)
        if request.method != "POST":
            question = (
                f"Create a successor of {key}? The old key works for another week, "
                "so that its users can switch to the new one."
            )
            return self._page(request, key, question=question, verb="Create a successor")
        try:
            with transaction.atomic():
                made = rotate(key)
                self.log_change(request, key, changes.message([f"Successor: {made.key}"]))
        except NotUsable:
            return self._back(request, key, "This key is expired or revoked")
        return self._page(request, made.key, token=made.token)

    @action(description="Revoke …", icon="block", permissions=["retire"])
    def revoke_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = self._key(request, object_id)
        if request.method != "POST":
            question = (
                f"Revoke {key}? Requests with it are refused within seconds. This cannot be undone."
            )
            return self._page(request, key, question=question, verb="Revoke the key")
        with transaction.atomic():
            revoke(key)
            self.log_change(
                request, key, changes.message([changes.step("State", "active", "revoked")])
            )
        return self._back(request, key, f"Revoked {key}", messages.SUCCESS)

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
