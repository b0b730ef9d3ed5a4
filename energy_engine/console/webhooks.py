"""Webhooks: who is notified of faults and jobs, and whether the messages arrive."""

from typing import Any, Final
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextInputWidget

from analytics.alerting.webhooks import PAUSES, new_secret
from analytics.models import Webhook, WebhookDelivery
from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import column
from energy_engine.console.words import changes
from energy_engine.console.words.badges import second
from energy_engine.console.words.labels import label

DELIVERIES_SHOWN: Final = 100


class WebhookForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """The address of a webhook; its secret is generated."""

    url = forms.URLField(
        label="Address",
        max_length=500,
        assume_scheme="https",
        widget=UnfoldAdminTextInputWidget({"inputmode": "url"}),
        help_text="where messages are posted to, such as https://example.org/hooks/faults",
    )

    class Meta:
        model = Webhook
        fields = ["url", "is_active", "tells_of_jobs"]
        labels = {"is_active": "Active", "tells_of_jobs": "Background jobs"}
        help_texts = {
            "tells_of_jobs": "also send a message when a background job starts to fail "
            "or works again"
        }

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"])
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise ValidationError("must begin with https:// or http://")
        if parts.username is not None or parts.password is not None:
            raise ValidationError("must not contain a user name or password")
        return url


@admin.display(description="Active", boolean=True, ordering="is_active")
def is_active(webhook: Webhook) -> bool:
    return bool(webhook.is_active)


class ActiveFilter(admin.BooleanFieldListFilter):
    """Webhooks that are active or not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = "active"


def outcome(delivery: WebhookDelivery) -> str:
    """Return the outcome of a message as a label."""
    if delivery.delivered_at:
        word, colour = "delivered", "success"
    elif delivery.attempts == 0:
        word, colour = "waiting", ""
    elif delivery.attempts <= len(PAUSES):
        word, colour = "retrying", "warning"
    else:
        word, colour = "given up", "danger"
    return label(word, colour)


@admin.register(Webhook)
class WebhookAdmin(ConsoleAdmin):
    """Webhooks. A secret is shown once, when it is created, and never again."""

    form = WebhookForm
    list_display = [
        column("Address", "url"),
        is_active,
        column("Latest message, UTC", "latest_at", second),
        column("Last delivered, UTC", "arrived_at", second),
        column("Added, UTC", "created_at", second),
    ]
    list_filter = [("is_active", ActiveFilter)]
    search_fields = ["url"]
    change_form_outer_after_template = "console/webhook_deliveries.html"
    actions_detail = ["replace_secret"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        of_webhook = WebhookDelivery.objects.filter(webhook=OuterRef("pk"))
        arrived = of_webhook.filter(delivered_at__isnull=False)
        rows: QuerySet[Any] = (
            super()
            .get_queryset(request)
            .annotate(
                latest_at=Subquery(of_webhook.order_by("-pk").values("created_at")[:1]),
                arrived_at=Subquery(arrived.order_by("-pk").values("delivered_at")[:1]),
            )
        )
        return rows

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return the webhooks without their messages, which may be very many."""
        return [str(webhook) for webhook in objs], {"webhooks": len(objs)}, set(), []

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.secret = new_secret()
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: Any = None
    ) -> HttpResponse:
        return self._secret_page(request, obj, obj.secret)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        webhook = self.get_object(request, unquote(object_id))
        found = webhook.deliveries.select_related("change__fault__site") if webhook else []
        shown = [(delivery, outcome(delivery)) for delivery in found[:DELIVERIES_SHOWN]]
        context = (extra_context or {}) | {"deliveries": shown, "at_most": DELIVERIES_SHOWN}
        page: HttpResponse = super().change_view(request, object_id, form_url, context)
        return page

    @action(description="New secret …", icon="key", permissions=["change"])
    def replace_secret(self, request: HttpRequest, object_id: str) -> HttpResponse:
        webhook = self.get_object(request, unquote(object_id))
        if webhook is None:
            raise Http404
        if request.method != "POST":
            return self._secret_page(request, webhook, None)
        with transaction.atomic():
            webhook.secret = new_secret()
            webhook.save(update_fields=["secret"])
            self.log_change(request, webhook, changes.message(["Secret: replaced"]))
        return self._secret_page(request, webhook, webhook.secret)

    def _secret_page(
        self, request: HttpRequest, webhook: Webhook, secret: str | None
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": webhook,
            "title": "Webhook secret",
            "webhook": webhook,
            "secret": secret,
        }
        return TemplateResponse(request, "console/webhook_secret.html", context)
