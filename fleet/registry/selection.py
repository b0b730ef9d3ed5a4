"""Which devices a request is about: its filters, and what its key reaches."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.db.models import Q, QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from fleet.access.authorization import grant_of
from fleet.access.keyring import Grant
from fleet.http.wire import FieldError, InvalidBody, listed
from fleet.models import EnergyRegister, Meter, Site, Vehicle

_LISTED_AT_MOST: Final = 100
FILTERS: Final = (
    OpenApiParameter("site", str, description="name of a site; empty: devices without a site"),
    OpenApiParameter(
        "energyRegister", str, enum=EnergyRegister.values, description="only devices with this one"
    ),
    OpenApiParameter("externalId", str, description="only the device with this external id"),
    OpenApiParameter(
        "search", str, description="beginning of the id or the name, in upper or lower case"
    ),
    OpenApiParameter("retired", bool, description="true: only retired devices; false: none"),
)


def reached(model: type[Meter | Vehicle], grant: Grant) -> QuerySet[Any]:
    """Return the devices that `grant` reaches."""
    devices = model.objects.select_related("site")
    if grant.is_for_all:
        return devices
    if grant.site_id is not None:
        return devices.filter(site=grant.site_id)
    ids = grant.meter_ids if issubclass(model, Meter) else grant.vehicle_ids
    return devices.filter(pk__in=ids)


def reached_sites(grant: Grant) -> QuerySet[Site]:
    """Return the site of a grant, or the sites of the devices that it reaches."""
    if grant.is_for_all:
        return Site.objects.all()
    if grant.site_id is not None:
        return Site.objects.filter(pk=grant.site_id)
    of_devices = Q(pk__in=reached(Meter, grant).values("site"))
    return Site.objects.filter(of_devices | Q(pk__in=reached(Vehicle, grant).values("site")))


def site_of(request: Request, site_id: int) -> Site:
    """Return a site that the request's key reaches. Errors: `NotFound`."""
    site = reached_sites(grant_of(request)).filter(pk=site_id).first()
    if site is None:
        raise NotFound("Site not found")
    return site


def require_all_devices(request: Request) -> None:
    """Require a key for all devices, unless the request only reads. Errors: `PermissionDenied`."""
    if request.method not in SAFE_METHODS and not grant_of(request).is_for_all:
        raise PermissionDenied("Changing sites needs a key for all devices")


def from_query(query: Mapping[str, str]) -> dict[str, Any]:
    """Return the filters in the query of a request. Errors: `ValidationError`."""
    wanted: dict[str, Any] = {name: query[name] for name in _CONDITIONS if name in query}
    if wanted.get("site") == "":
        wanted["site"] = None
    if wanted.get("energyRegister", EnergyRegister.COUNTER) not in EnergyRegister.values:
        raise ValidationError(f"energyRegister must be one of {listed(EnergyRegister.values)}")
    if "retired" in wanted:
        if wanted["retired"] not in ("true", "false"):
            raise ValidationError("retired must be true or false")
        wanted["retired"] = wanted["retired"] == "true"
    return wanted


def matching(wanted: Mapping[str, Any]) -> Q:
    """Return the condition of filters, by their names on the wire."""
    conditions = Q()
    for name, value in wanted.items():
        conditions &= _CONDITIONS[name](value)
    return conditions


def with_ids(devices: QuerySet[Any], ids: Sequence[str]) -> QuerySet[Any]:
    """Return those of `devices` with these ids.

    Errors: `InvalidBody`, which names the ids that none of them has, by their place in the list.
    """
    found = devices.filter(pk__in=ids)
    known = set(found.values_list("pk", flat=True))
    kind = devices.model._meta.model_name
    unknown = [place for place, device_id in enumerate(ids) if device_id not in known]
    if unknown:
        raise InvalidBody(
            *(
                FieldError(
                    f"ids[{place}]",
                    "unknown_device",
                    f"ids[{place}] must be the id of a registered {kind}",
                )
                for place in unknown[:_LISTED_AT_MOST]
            )
        )
    return found


def _at_site(name: str | None) -> Q:
    return Q(site__isnull=True) if name is None else Q(site__name=name)


def _retired(is_retired: bool) -> Q:
    gone = Q(retired_at__lte=timezone.now())
    # Not `~gone`, which Django makes a condition that also spells out the null.
    return gone if is_retired else Q(retired_at__isnull=True) | Q(retired_at__gt=timezone.now())


_CONDITIONS: Final = {
    "site": _at_site,
    "energyRegister": lambda register: Q(energy_register=register),
    "externalId": lambda external_id: Q(external_id=external_id),
    "search": lambda text: Q(pk__istartswith=text) | Q(name__istartswith=text),
    "retired": _retired,
}
