"""The tables of tariffs; `fleet.models` imports them, which is where Django looks."""

from datetime import datetime, time
from decimal import Decimal
from itertools import pairwise
from typing import ClassVar, Final

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from psqlextra.models import PostgresModel

from fleet.tariffs.weeks import QUARTER_MINUTES, WEEKDAYS, Rule, Week, week_of

MAX_PER_KWH: Final = 100_000
PRICE_DIGITS: Final = 12
PRICE_DECIMALS: Final = 6


class PriceField(models.DecimalField):  # type: ignore[type-arg] # not generic at run time
    """A price per kWh in the currency of the site; below 0 where the supplier pays."""

    default_validators = [MinValueValidator(-MAX_PER_KWH), MaxValueValidator(MAX_PER_KWH)]

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs |= {"max_digits": PRICE_DIGITS, "decimal_places": PRICE_DECIMALS}
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]


class TariffKind(models.TextChoices):
    """Where the prices of a tariff come from."""

    FIXED = "fixed", "fixed: one price at all times"
    TIME_OF_USE = "time_of_use", "time of use: prices by weekday and local time"
    SERIES = "series", "series: the prices that were sent or imported for the site"


def validate_quarter_hour(moment: time | datetime) -> None:
    """Errors: `ValidationError` when `moment` is not at a full quarter hour."""
    if moment.minute % QUARTER_MINUTES or moment.second or moment.microsecond:
        raise ValidationError("must be at a full quarter hour", code="out_of_range")


def validate_weekdays(weekdays: list[int]) -> None:
    """Errors: `ValidationError` when `weekdays` are not some days of a week, each once."""
    if not weekdays:
        raise ValidationError("must have at least one weekday", code="out_of_range")
    if len(set(weekdays)) < len(weekdays):
        raise ValidationError("must have each weekday once", code="conflict")


class Tariff(PostgresModel):
    """The prices of AC at a site, from a local date on until the site's next tariff begins."""

    site = models.ForeignKey(
        "fleet.Site", on_delete=models.CASCADE, related_name="tariffs", db_index=False
    )
    valid_from = models.DateField(
        "valid from",
        null=True,
        blank=True,
        help_text="first day, in the site's time zone; leave empty for all times before the next "
        "tariff",
    )
    kind = models.CharField(max_length=16, choices=TariffKind, default=TariffKind.FIXED)
    price_per_kwh = PriceField(
        "price, per kWh",
        null=True,
        blank=True,
        help_text="of a fixed tariff; in a time-of-use tariff, the price where no rule applies: "
        "leave empty for none",
    )

    class Meta(PostgresModel.Meta):
        ordering: ClassVar = [
            "site__name",
            models.F("valid_from").asc(nulls_first=True),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["site", "valid_from"],
                name="tariff_once_per_site_and_day",
                nulls_distinct=False,
                violation_error_message="This site already has a tariff from this day on",
                violation_error_code="not_unique",
            ),
            models.CheckConstraint(
                name="tariff_has_the_price_of_its_kind",
                condition=~models.Q(kind="fixed", price_per_kwh__isnull=True)
                & ~models.Q(kind="series", price_per_kwh__isnull=False),
                violation_error_message="The price does not fit the kind of tariff",
            ),
        ]

    def __str__(self) -> str:
        since = f"from {self.valid_from}" if self.valid_from else "at all times"
        return f"{self.site}, {since}: {self.get_kind_display().split(':')[0]}"

    def clean(self) -> None:
        """Errors: `ValidationError` for a price that the kind lacks, or can't have."""
        super().clean()
        if self.kind == TariffKind.FIXED and self.price_per_kwh is None:
            message, code = "is required for a fixed tariff", "missing"
        elif self.kind == TariffKind.SERIES and self.price_per_kwh is not None:
            message, code = "must be empty for a series", "conflict"
        else:
            return
        raise ValidationError({"price_per_kwh": ValidationError(message, code=code)})

    def week(self) -> Week | None:
        """Return the prices of a week; None for a series, which has no week."""
        if self.kind == TariffKind.SERIES:
            return None
        return week_of((rule.as_rule() for rule in self.rules.all()), self.price_per_kwh)


class TariffRule(PostgresModel):
    """A price of a time-of-use tariff at some times of the week."""

    tariff = models.ForeignKey(Tariff, on_delete=models.CASCADE, related_name="rules")
    weekdays = ArrayField(
        models.SmallIntegerField(choices=[*enumerate(WEEKDAYS, 1)]),
        validators=[validate_weekdays],
        help_text="days on which it starts",
    )
    start = models.TimeField(
        validators=[validate_quarter_hour], help_text="local time, at a full quarter hour"
    )
    end = models.TimeField(
        validators=[validate_quarter_hour],
        help_text="local time; on the next day, if it is not after the start: 00:00 is midnight at "
        "the end of the day",
    )
    price_per_kwh = PriceField("price, per kWh")

    class Meta(PostgresModel.Meta):
        ordering = ["tariff", "pk"]

    def __str__(self) -> str:
        return f"{weekday_words(self.weekdays)} {self.start:%H:%M} to {self.end:%H:%M}"

    def as_rule(self) -> Rule:
        """Return the rule as a plain value."""
        return Rule(self.weekdays, self.start, self.end, Decimal(self.price_per_kwh))


class SeriesPrice(PostgresModel):
    """The price of a quarter hour at a site; it applies while a tariff of kind series does."""

    # PostgreSQL deletes them with their site: there may be 35,000 a year.
    site = models.ForeignKey(
        "fleet.Site",
        on_delete=models.DO_NOTHING,
        related_name="series_prices",
        db_constraint=False,
        db_index=False,
    )
    starts_at = models.DateTimeField(validators=[validate_quarter_hour])
    price_per_kwh = PriceField()

    class Meta(PostgresModel.Meta):
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["site", "starts_at"], name="series_price_once_per_quarter_hour"
            )
        ]

    def __str__(self) -> str:
        return f"{self.site}, {self.starts_at}"


def weekday_words(weekdays: list[int] | tuple[int, ...]) -> str:
    """Return weekdays in words: "Mon to Fri", "Mon, Wed"."""
    names = [WEEKDAYS[weekday - 1].capitalize() for weekday in sorted(weekdays)]
    follow_each_other = all(one + 1 == next_ for one, next_ in pairwise(sorted(weekdays)))
    return (
        f"{names[0]} to {names[-1]}" if len(names) > 2 and follow_each_other else ", ".join(names)
    )
