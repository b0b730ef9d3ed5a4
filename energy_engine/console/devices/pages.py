"""The page of a vehicle or meter: live state, figures, links, deliveries and faults."""

from datetime import timedelta
from typing import Any, Final

from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import render
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from analytics.figures.trace import Delivery, recent_deliveries
from analytics.figures.window import InvalidWindow, Window
from analytics.models import Fault, FaultState
from energy_engine.console.devices.figures import (
    meter_figures,
    vehicle_figures,
    what_it_is_made_of,
)
from energy_engine.console.devices.links import (
    RelinkForm,
    VehicleLinks,
    Views,
    link_rows,
    timeline,
)
from energy_engine.console.devices.ranges import Range, choices, range_of
from energy_engine.console.hints import hints_of
from energy_engine.console.lists.base import ConsoleAdmin
from energy_engine.console.lists.listing import REGISTERED
from fleet.look_alikes import look_alike_of
from fleet.models import Meter, Vehicle
from ingestion.readings import MAX_AHEAD

_DELIVERIES: Final = 100
_DELIVERY_AGE: Final = timedelta(days=7)
_CLOSED_FAULTS: Final = 10
SECTIONS: Final = [
    (
        "How its energy is counted",
        {
            "fields": [
                *("energy_register", "scale", "max_power_kw"),
                *("interval_seconds", "rolls_over_at_kwh"),
            ]
        },
    ),
    ("Clock", {"fields": ["clock_offset_seconds"]}),
]


class DevicePage(ConsoleAdmin):
    """What the pages of vehicles and meters have in common, around the settings form.

    The number of statements does not grow with the device's history.
    """

    change_form_template = "console/device.html"
    add_form_template = "admin/change_form.html"

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(
                f"<path:object_id>/{name}/",
                self.admin_site.admin_view(view),
                name=f"fleet_{self.model._meta.model_name}_{name}",
            )
            for name, view in self.views().items()
        ]
        return [*own, *super().get_urls()]

    def views(self) -> Views:
        """Return the page's additional views, by the last part of their address."""
        return {"figures": require_safe(self.figures_view)}

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        what: list[Any] = ["name", "external_id", "site", "retired_at"]
        what = [*what, REGISTERED] if obj else [self.model._meta.pk.name, *what]
        return [("What it is", {"fields": what}), *SECTIONS]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "retired_at":
            field.label = "Retired at, UTC"
        return field

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [REGISTERED] if obj else []

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if kwargs.get("obj"):
            context |= self.page(request, kwargs["obj"])
            context["media"] += RelinkForm().media
        response: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return response

    def page(self, request: HttpRequest, device: Any) -> dict[str, Any]:
        """Return the template's context besides the form."""
        rows, has_more_links = link_rows(device, self.may_change_links(request))
        return {
            **self._range(request, device),
            **_faults(device),
            "hints": hints_of(request, device),
            "live": getattr(device, "live_state", None),
            "look_alike": look_alike_of(device),
            "link_rows": rows,
            "has_more_links": has_more_links,
            "deliveries": _deliveries(device),
        }

    def may_change_links(self, request: HttpRequest) -> bool:
        return False

    def figures_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Return the part of the page that depends on the range, and the page's new address."""
        device = self._shown(request, object_id)
        context = self._range(request, device)
        answer = render(request, "console/device_figures.html", context)
        answer["HX-Replace-Url"] = f"{context['pages']['change']}?{context['chosen'].query}"
        return answer

    def figures(self, device: Any, chosen: Range) -> dict[str, Any]:
        raise NotImplementedError

    def _range(self, request: HttpRequest, device: Any) -> dict[str, Any]:
        chosen = range_of(device, request.GET)
        kind = self.model._meta.model_name
        return {
            "device": device,
            "kind": kind,
            "pages": {
                name: reverse(f"admin:fleet_{kind}_{name}", args=[quote(device.pk)])
                for name in ("change", *self.views())
            },
            "choices": choices(chosen),
            "chosen": chosen,
            # No links to pages that the user may not open.
            "may_view": {
                "vehicle": request.user.has_perm("fleet.view_vehicle"),
                "meter": request.user.has_perm("fleet.view_meter"),
                "link": request.user.has_perm("fleet.view_vehiclemeterlink"),
                "fault": request.user.has_perm("analytics.view_fault"),
            },
            **self.figures(device, chosen),
        }

    def _shown(self, request: HttpRequest, object_id: str) -> Any:
        device = self.get_object(request, unquote(object_id))
        if device is None:
            raise Http404
        if not self.has_view_permission(request, device):
            raise PermissionDenied
        return device


class VehiclePage(VehicleLinks, DevicePage):
    """The page of a vehicle."""

    def views(self) -> Views:
        return super().views() | {"why": require_safe(self.why_view)} | self.link_views()

    def figures(self, device: Vehicle, chosen: Range) -> dict[str, Any]:
        return vehicle_figures(device, chosen)

    def may_change_links(self, request: HttpRequest) -> bool:
        return request.user.has_perm("fleet.change_vehiclemeterlink")

    def page(self, request: HttpRequest, device: Vehicle) -> dict[str, Any]:
        page = super().page(request, device)
        # The form's list of meters is served only to users who may view meters.
        may_link = request.user.has_perms(["fleet.add_vehiclemeterlink", "fleet.view_meter"])
        return page | {
            "timeline": timeline(page["link_rows"]),
            "link_form": RelinkForm(auto_id="link_%s") if may_link else None,
        }

    def why_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Return the explanation of a figure."""
        vehicle = self._shown(request, object_id)
        try:
            why = what_it_is_made_of(vehicle, Window.from_query(request.GET))
        except InvalidWindow as error:
            return HttpResponseBadRequest(str(error), content_type="text/plain")
        may_view_meter = request.user.has_perm("fleet.view_meter")
        context = why | {"device": vehicle, "may_view_meter": may_view_meter}
        return render(request, "console/device_why.html", context)


class MeterPage(DevicePage):
    """The page of a meter."""

    def figures(self, device: Meter, chosen: Range) -> dict[str, Any]:
        return meter_figures(device, chosen)


def _deliveries(device: Vehicle | Meter) -> list[Delivery]:
    now = timezone.now()
    # Device clocks may be ahead by up to MAX_AHEAD; such readings are included.
    window = Window(now - _DELIVERY_AGE, now + MAX_AHEAD + timedelta(seconds=1))
    return recent_deliveries(type(device), device.pk, window, _DELIVERIES)


def _faults(device: Vehicle | Meter) -> dict[str, Any]:
    """Return a device's faults: those not closed, its site's included, and the last closed."""
    kind = device._meta.model_name
    own = Q((f"{kind}_id", device.pk))
    of_site = Q(site=device.site_id, vehicle_id=None, meter_id=None)
    at_site = of_site if device.site_id else Q()
    not_closed = Fault.objects.exclude(state=FaultState.CLOSED).filter(own | at_site)
    closed = Fault.objects.filter(own, state=FaultState.CLOSED).order_by("-closed_at", "-pk")
    return {
        "open_faults": [(fault, _fault_page(fault)) for fault in not_closed],
        "closed_faults": [(fault, _fault_page(fault)) for fault in closed[:_CLOSED_FAULTS]],
    }


def _fault_page(fault: Fault) -> str:
    try:
        return reverse("admin:analytics_fault_change", args=[fault.pk])
    except NoReverseMatch:
        return ""
