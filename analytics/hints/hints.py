"""Hints: opened and closed by what the readings say, followed and dismissed by people.

The only writer of hints. A hint goes when the setting that it is about has changed, when the device
is retired, when the figures are plausible again, or when nothing has confirmed it for some time.
One that was dismissed stays dismissed until then.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone

from analytics.hints.evidence import Device, Evidence, evidence
from analytics.models import Hint, HintKind, VehicleDay
from fleet.models import Meter, Vehicle
from fleet.registers import REGISTER_FIELDS, announce_register

# How long a hint stays that nothing confirms: a vehicle may be away for days.
STAYS_FOR: Final[Mapping[str, timedelta]] = {
    HintKind.UNIT: timedelta(days=7),
    HintKind.POWER: timedelta(days=7),
    HintKind.REGISTER: timedelta(days=2),
    HintKind.CLOCK: timedelta(0),
}
# A hint that was followed does not come back from figures that are older.
FOLLOWED_FOR: Final = timedelta(hours=1)
# Percent: no unit is wrong by a factor of a thousand.
_PLAUSIBLE: Final = (2.0, 2_000.0)

_Key = tuple[str, Device, str]


class SettingChanged(Exception):
    """The setting that a hint is about is no longer what it was when the hint was found."""


class Followed(NamedTuple):
    """What following a hint has changed."""

    device: Meter | Vehicle
    field: str
    before: Any
    after: Any


def look() -> None:
    """Open, renew and close the hints of the whole fleet, by what is known now."""
    now = timezone.now()
    found = {(str(each.kind), each.model, each.device_id): each for each in evidence(now)}
    with transaction.atomic():
        hints = {_key(hint): hint for hint in Hint.objects.select_for_update()}
        gone = _gone(hints, found, now)
        Hint.objects.filter(pk__in=[hints[key].pk for key in gone]).delete()
        kept = {key: hint for key, hint in hints.items() if key not in gone}
        Hint.objects.bulk_create(
            _opened(each, now) for key, each in found.items() if key not in kept
        )
        renewed = [
            _renewed(hint, found[key], now)
            for key, hint in kept.items()
            if key in found and hint.followed_at is None
        ]
        Hint.objects.bulk_update(renewed, ["confirmed_at", "proposal", "numbers"])


def follow(hint_id: int) -> Followed:
    """Change the setting of the hint's device as proposed, as the console's form would.

    The hint is no longer listed. Errors: `Hint.DoesNotExist`, `SettingChanged`.
    """
    with transaction.atomic():
        hint = Hint.objects.select_for_update().get(pk=hint_id, followed_at=None)
        model, device_id = device_of(hint)
        device = model.objects.select_for_update().get(pk=device_id)
        if getattr(device, hint.field) != hint.before:
            raise SettingChanged
        setattr(device, hint.field, hint.proposal)
        device.save(update_fields=[hint.field])
        if hint.field in REGISTER_FIELDS:
            announce_register(device)
        hint.followed_at = timezone.now()
        hint.save(update_fields=["followed_at"])
    return Followed(device, hint.field, hint.before, hint.proposal)


def dismiss(hint_id: int, user: AbstractBaseUser | None) -> Hint:
    """Take a hint from the list until it is gone once. Errors: `Hint.DoesNotExist`."""
    with transaction.atomic():
        hint: Hint = Hint.objects.select_for_update().get(pk=hint_id, followed_at=None)
        if hint.dismissed_at is None:
            hint.dismissed_at = timezone.now()
            hint.dismissed_by_id = user.pk if user else None
            hint.save(update_fields=["dismissed_at", "dismissed_by"])
    return hint


def device_of(hint: Hint) -> tuple[Device, str]:
    """Return the kind and the id of the hint's device."""
    return (Vehicle, hint.vehicle_id) if hint.vehicle_id else (Meter, str(hint.meter_id))


def _key(hint: Hint) -> _Key:
    return (hint.kind, *device_of(hint))


def _opened(each: Evidence, now: datetime) -> Hint:
    device = {f"{each.model._meta.model_name}_id": each.device_id}
    hint = Hint(kind=each.kind, **device, field=each.field, before=each.before, opened_at=now)
    return _renewed(hint, each, now)


def _renewed(hint: Hint, each: Evidence, now: datetime) -> Hint:
    hint.confirmed_at, hint.proposal, hint.numbers = now, each.proposal, each.numbers
    return hint


def _gone(hints: Mapping[_Key, Hint], found: Mapping[_Key, Evidence], now: datetime) -> set[_Key]:
    """Return the keys of the hints that are gone; a few statements."""
    outdated = _outdated(hints.values(), now)
    plausible = _plausible_units(hints.values())
    gone = set()
    for key, hint in hints.items():
        if hint.followed_at is not None:
            is_gone = hint.followed_at < now - FOLLOWED_FOR
        elif hint.pk in outdated:
            is_gone = True
        elif key in found:
            is_gone = False
        else:
            is_gone = key in plausible or hint.confirmed_at <= now - STAYS_FOR[hint.kind]
        if is_gone:
            gone.add(key)
    return gone


def _outdated(hints: Iterable[Hint], now: datetime) -> set[int]:
    """Return the ids of the hints whose setting has changed or whose device is retired."""
    by_device: dict[tuple[Device, str], list[Hint]] = {}
    for hint in hints:
        by_device.setdefault(device_of(hint), []).append(hint)
    outdated = set()
    for model in (Meter, Vehicle):
        ids = [device_id for kind, device_id in by_device if kind is model]
        for device in model.objects.filter(pk__in=ids) if ids else []:
            is_retired = device.retired_at is not None and device.retired_at <= now
            for hint in by_device[model, device.pk]:
                if is_retired or getattr(device, hint.field) != hint.before:
                    outdated.add(hint.pk)
    return outdated


def _plausible_units(hints: Iterable[Hint]) -> set[_Key]:
    """Return which devices with a hint about their unit have a plausible efficiency by now."""
    devices = [device_of(hint) for hint in hints if hint.kind == HintKind.UNIT]
    low, high = _PLAUSIBLE
    plausible: set[_Key] = set()
    for model, field in ((Vehicle, "vehicle_id"), (Meter, "meter_id")):
        ids = [device_id for kind, device_id in devices if kind is model]
        days = VehicleDay.objects.filter(
            **{f"{field}__in": ids}, efficiency_percent__gte=low, efficiency_percent__lte=high
        )
        if ids:
            plausible |= {
                (str(HintKind.UNIT), model, each) for each in days.values_list(field, flat=True)
            }
    return plausible
