"""Devices that are probably another one under an id that was spelled differently."""

from django.db.models import Case, F, OuterRef, Q, QuerySet, Subquery, When
from django.utils import timezone

from fleet.device_ids import LookAlikeKey
from fleet.models import Meter, Vehicle


def look_alike(model: type[Meter | Vehicle]) -> Case:
    """Return an expression for a device's look-alike: the id of an earlier device, or null.

    Both are in service, and their ids differ only by case or by a trailing `.0`. Costs a look into
    an index for each row.
    """
    key = str(model._meta.pk.name)
    in_service = Q(retired_at=None) | Q(retired_at__gt=timezone.now())
    is_earlier = Q(registered_at__lt=OuterRef("registered_at")) | Q(
        ("registered_at", OuterRef("registered_at")), (f"{key}__lt", OuterRef("pk"))
    )
    others: QuerySet[Meter | Vehicle] = (
        model._default_manager.alias(key=LookAlikeKey(F(key)))
        .filter(is_earlier, in_service, key=LookAlikeKey(OuterRef("pk")))
        .exclude(pk=OuterRef("pk"))
        .order_by("registered_at", "pk")
    )
    return Case(When(in_service, then=Subquery(others.values("pk")[:1])))


def look_alike_of(device: Meter | Vehicle) -> str | None:
    """Return the id of the device's look-alike, if it has one."""
    model = type(device)
    found: str | None = (
        model._default_manager.filter(pk=device.pk)
        .values_list(look_alike(model), flat=True)
        .first()
    )
    return found
