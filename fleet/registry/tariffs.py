"""Tariffs and prices as clients read and change them."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, Final

import msgspec
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from fleet.http.wire import listed
from fleet.registry.strict import InstantField, ItemsField, OneOfField, PriceField, Strict
from fleet.tariffs.models import Tariff, TariffKind
from fleet.tariffs.weeks import QUARTER_MINUTES, WEEKDAYS, Rule, gaps, overlap

MAX_DAYS: Final = 366
_INTERVALS: Final = {QUARTER_MINUTES: 96 * MAX_DAYS, 60: 24 * MAX_DAYS}
_MOST_PRICES: Final = max(_INTERVALS.values())
_quarter_hour = re.compile("([01][0-9]|2[0-3]):(00|15|30|45)")


@extend_schema_field(OpenApiTypes.DATE)
class DateField(serializers.DateField):
    """A date, such as 2026-07-01."""

    default_error_messages = {"invalid": "must be a date, such as 2026-07-01"}

    def to_internal_value(self, value: Any) -> date:
        try:
            return msgspec.convert(value, date)
        except msgspec.ValidationError:
            raise ValidationError(self.error_messages["invalid"], "invalid_format") from None


@extend_schema_field({"type": "string", "pattern": _quarter_hour.pattern})
class QuarterHourField(serializers.Field):  # type: ignore[type-arg] # not generic at run time
    """A local time in quarter hours, such as 22:15."""

    default_error_messages = {"null": "must be a local time in quarter hours, such as 22:15"}

    def to_internal_value(self, data: Any) -> time:
        if not isinstance(data, str):
            raise ValidationError(self.error_messages["null"], "wrong_type")
        if not _quarter_hour.fullmatch(data):
            raise ValidationError(self.error_messages["null"], "invalid_format")
        return time.fromisoformat(data)

    def to_representation(self, value: time) -> str:
        return f"{value:%H:%M}"


@extend_schema_field({"type": "array", "items": {"type": "string", "enum": [*WEEKDAYS]}})
class WeekdaysField(serializers.Field):  # type: ignore[type-arg] # not generic at run time
    """Weekdays, each once, such as ["sat", "sun"]."""

    default_error_messages = {
        "null": f"must be a list of weekdays: {listed(WEEKDAYS)}",
        "empty": "must have at least one weekday",
        "twice": "must have each weekday once",
    }

    def to_internal_value(self, data: Any) -> list[int]:
        if not isinstance(data, list):
            raise ValidationError(self.error_messages["null"], "wrong_type")
        if not data:
            raise ValidationError(self.error_messages["empty"], "out_of_range")
        if not all(day in WEEKDAYS for day in data):
            raise ValidationError(self.error_messages["null"], "invalid_format")
        if len(set(data)) < len(data):
            raise ValidationError(self.error_messages["twice"], "conflict")
        return sorted(WEEKDAYS.index(day) + 1 for day in data)

    def to_representation(self, value: Sequence[int]) -> list[str]:
        return [WEEKDAYS[day - 1] for day in value]


class TariffRuleSettings(Strict):
    """A price at some times of the week."""

    weekdays = WeekdaysField(help_text="days on which it starts")
    start = QuarterHourField(help_text="local time, in quarter hours")
    end = QuarterHourField(
        help_text="local time; on the next day, if it is not after the start: 00:00 is the end of "
        "the day"
    )
    pricePerKwh = PriceField(source="price_per_kwh", help_text="in the currency of the site")


class TariffGap(serializers.Serializer):  # type: ignore[type-arg] # not generic at run time
    """A time of the week without a price; an end of 00:00 is the end of the day."""

    weekdays = WeekdaysField(read_only=True)
    start = QuarterHourField(read_only=True)
    end = QuarterHourField(read_only=True)


class TariffSettings(Strict):
    """A tariff of a site."""

    fixed = ("id", "gaps")

    validFrom = DateField(
        source="valid_from",
        required=False,
        allow_null=True,
        default=None,
        help_text="first day, in the site's time zone; null: all times before the next tariff",
    )
    kind = OneOfField(TariffKind.values)
    pricePerKwh = PriceField(
        source="price_per_kwh",
        required=False,
        allow_null=True,
        default=None,
        help_text="of a fixed tariff; of a time-of-use tariff, where no rule applies; null: none",
    )
    rules = ItemsField(
        child=TariffRuleSettings(),
        required=False,
        default=list,
        help_text="of a time-of-use tariff; no two cover the same quarter hour",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        kind, price = attrs["kind"], attrs["price_per_kwh"]
        if kind == TariffKind.FIXED and price is None:
            _refuse("pricePerKwh", "is required for a fixed tariff", "missing")
        if kind == TariffKind.SERIES and price is not None:
            _refuse("pricePerKwh", "must be null for a series", "conflict")
        if kind != TariffKind.TIME_OF_USE and attrs["rules"]:
            _refuse("rules", "must be empty unless kind is time_of_use", "conflict")
        require_no_overlap([Rule(**rule) for rule in attrs["rules"]])
        return attrs


def require_no_overlap(rules: Sequence[Rule]) -> None:
    """Errors: `ValidationError`, which names both rules and the first quarter hour of both."""
    if found := overlap(rules):
        when = f"{WEEKDAYS[found.weekday - 1].capitalize()} {found.start:%H:%M}"
        _refuse(
            f"rules[{found.second}]",
            f"must not overlap rules[{found.first}]: both have a price for {when}",
            "conflict",
        )


def _refuse(field: str, message: str, code: str) -> None:
    raise ValidationError({field: [message]}, code)


class TariffRow(serializers.Serializer):  # type: ignore[type-arg] # not generic at run time
    """A tariff of a site, and the times of the week for which it has no price."""

    id = serializers.IntegerField(read_only=True)
    validFrom = DateField(
        source="valid_from",
        read_only=True,
        allow_null=True,
        help_text="first day, in the site's time zone; null: all times before the next tariff",
    )
    kind = OneOfField(TariffKind.values, read_only=True)
    pricePerKwh = PriceField(source="price_per_kwh", read_only=True, allow_null=True)
    rules = TariffRuleSettings(many=True, read_only=True)
    gaps = serializers.SerializerMethodField(
        help_text="times of the week without a price; null for a series"
    )

    @extend_schema_field(TariffGap(many=True, allow_null=True))
    def get_gaps(self, tariff: Tariff) -> Any:
        week = tariff.week()
        return None if week is None else TariffGap(gaps(week), many=True).data


class TariffList(serializers.Serializer):  # type: ignore[type-arg] # not generic at run time
    """The tariffs of a site, in the order in which they begin."""

    results = TariffRow(many=True, read_only=True)


@extend_schema_field({"type": "integer", "enum": [*_INTERVALS]})
class _MinutesField(serializers.Field):  # type: ignore[type-arg] # not generic at run time
    """15 or 60."""

    default_error_messages = {"null": "must be 15 or 60"}

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            raise ValidationError(self.error_messages["null"], "wrong_type")
        if data not in _INTERVALS:
            raise ValidationError(self.error_messages["null"], "out_of_range")
        return data


class SeriesOrder(Strict):
    """Prices of successive quarter hours or hours; they replace those of the same time."""

    start = InstantField(help_text="when the first one begins: at a full quarter hour")
    intervalMinutes = _MinutesField(help_text="how long each price applies: 15 or 60")
    pricesPerKwh = serializers.ListField(
        child=PriceField(allow_null=True),
        allow_empty=False,
        help_text="a price for each interval, at most 366 days; null: none",
        error_messages={
            "not_a_list": "must be a list of prices",
            "null": "must be a list of prices",
            "empty": "must have at least one price",
        },
    )

    def to_internal_value(self, data: Any) -> Any:
        # First, so that a list that is too long takes no time.
        prices = data.get("pricesPerKwh") if isinstance(data, Mapping) else None
        if isinstance(prices, list):
            minutes = data.get("intervalMinutes")
            most = _INTERVALS.get(minutes if isinstance(minutes, int) else 0, _MOST_PRICES)
            if len(prices) > most:
                message = f"must have at most {most:,} prices ({MAX_DAYS} days)"
                _refuse("pricesPerKwh", message, "out_of_range")
        return super().to_internal_value(data)

    def validate_start(self, start: datetime) -> datetime:
        if start.minute % QUARTER_MINUTES or start.second or start.microsecond:
            raise ValidationError("must be at a full quarter hour", "out_of_range")
        return start


class SeriesStored(msgspec.Struct):
    """How many quarter hours have a price now, of those that the request was about."""

    stored: int
    removed: int


class Price(msgspec.Struct):
    """A span of time with one price per kWh; null: without a price."""

    start: datetime
    end: datetime
    price_per_kwh: float | None = msgspec.field(name="pricePerKwh")


class PricesInForce(msgspec.Struct):
    """The prices of a site over a span of time, which they fill, in the site's currency."""

    start: datetime
    end: datetime
    currency: str
    results: list[Price]
