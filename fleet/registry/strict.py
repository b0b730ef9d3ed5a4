"""Serializers that are as strict as the other bodies: no unknown fields, no conversions.

Wire names are the fields' names in camelCase. The rules are those of the model, so that the API,
the console's forms and CSV files refuse the same values.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec
from django.core.exceptions import ValidationError as ModelError
from django.db import models
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from fleet.http.wire import (
    DECODE_ERRORS,
    Buffer,
    FieldError,
    InvalidBody,
    MalformedBody,
    instant,
    listed,
    require_utf8,
    suggestion,
)
from fleet.tariffs.models import MAX_PER_KWH, PRICE_DECIMALS, PRICE_DIGITS

_PRICE_RANGE: Final = f"must be a number from {-MAX_PER_KWH:,} to {MAX_PER_KWH:,}"
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
_snake_case = re.compile("_([a-z])")
# The codes of `errors`, by those of Django and of its REST framework, where they differ.
_CODES: Final = {
    "blank": "invalid_format",
    "does_not_exist": "unknown_site",
    "empty": "out_of_range",
    "invalid": "wrong_type",
    "invalid_choice": "invalid_format",
    "max_decimal_places": "out_of_range",
    "max_digits": "out_of_range",
    "max_length": "out_of_range",
    "max_value": "out_of_range",
    "max_whole_digits": "out_of_range",
    "min_value": "out_of_range",
    "not_a_list": "wrong_type",
    "null": "wrong_type",
    "null_characters_not_allowed": "invalid_format",
}


def wire_name(field: str) -> str:
    """Return a field's name in camelCase."""
    return _snake_case.sub(lambda match: match[1].upper(), field)


class NumberField(serializers.FloatField):
    """A JSON number, not a string of one."""

    default_error_messages = {"invalid": "must be a number", "null": "must be a number"}

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        try:
            return float(data)
        except OverflowError:
            raise ValidationError("must be a number below 1e308", "out_of_range") from None


@extend_schema_field(OpenApiTypes.DOUBLE)
class PriceField(serializers.DecimalField):
    """A price per kWh with the limits of `fleet.tariffs`, a JSON number on the wire."""

    default_error_messages = {
        "invalid": "must be a number",
        "null": "must be a number",
        "min_value": _PRICE_RANGE,
        "max_value": _PRICE_RANGE,
        "max_whole_digits": _PRICE_RANGE,
        "max_digits": "must have at most {max_digits} digits",
        "max_decimal_places": "must have at most {max_decimal_places} decimal places",
    }

    def __init__(self, **kwargs: Any) -> None:
        limits = {"min_value": -MAX_PER_KWH, "max_value": MAX_PER_KWH}
        sizes = {"max_digits": PRICE_DIGITS, "decimal_places": PRICE_DECIMALS}
        super().__init__(**sizes | limits | kwargs)

    def to_internal_value(self, data: Any) -> Decimal:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        return super().to_internal_value(repr(data))

    def to_representation(self, value: Any) -> float:  # type: ignore[override] # a JSON number
        return float(value)


class TextField(serializers.CharField):
    """A JSON string of one line; an empty one is null where null is allowed."""

    default_error_messages = {
        "invalid": "must be a string",
        "null": "must be a string",
        "blank": "must not be empty",
        "max_length": "must have at most {max_length} characters",
        "line": "must be a single line, without control characters",
    }

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid")
        text = data.strip() if self.trim_whitespace else data
        if text and not text.isprintable():
            raise ValidationError(self.error_messages["line"], "invalid_format")
        return text or (None if self.allow_null else text)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        text = super().run_validation(data)
        return text or (None if self.allow_null else text)


class InstantField(serializers.DateTimeField):
    """An RFC 3339 time with an offset."""

    default_error_messages = {
        "invalid": "must be an RFC 3339 time with an offset, such as 2026-07-15T12:00:00Z"
    }

    def to_internal_value(self, value: Any) -> datetime:
        try:
            moment = msgspec.convert(value, _Instant)
            instant(moment)  # one at the edge of the calendar has no time in UTC
        except (msgspec.ValidationError, OverflowError):
            raise ValidationError(self.error_messages["invalid"], "invalid_format") from None
        return moment

    def to_representation(self, value: Any) -> Any:
        return value  # the renderer's own format


class YesOrNoField(serializers.BooleanField):
    """true or false, not a word for one of them."""

    default_error_messages = {"invalid": "must be true or false", "null": "must be true or false"}

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid")
        return data


class OneOfField(serializers.ChoiceField):
    """One of a few words."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str) or data not in self.choices:
            code = "invalid_format" if isinstance(data, str) else "wrong_type"
            raise ValidationError(f"must be one of {listed(self.choices)}", code)
        return super().to_internal_value(data)


class Strict(serializers.Serializer):  # type: ignore[type-arg] # not generic at run time
    """Refuses unknown fields, and with another message those that can't be changed."""

    fixed: tuple[str, ...] = ()

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise _Unfit(FieldError(None, "wrong_type", "The body must be a JSON object"))
        known = [name for name, field in self.fields.items() if not field.read_only]
        for name in data:
            if name in self.fixed:
                raise _Unfit(FieldError(name, "read_only", f"{name} can't be changed"))
            if name not in known:
                hint = suggestion(str(name), known)
                message = f"Unknown field{hint} The body may have {listed(known)}"
                raise _Unfit(FieldError(None, "unknown_field", message))
        return super().to_internal_value(data)


class ItemsField(serializers.ListField):
    """A list of objects; an error names the place of its item."""

    default_error_messages = {"not_a_list": "must be a list", "null": "must be a list"}

    def run_child_validation(self, data: Any) -> list[Any]:
        found: list[Any] = []
        errors: dict[Any, Any] = {}
        for place, item in enumerate(data):
            try:
                found.append(self.child.run_validation(item))
            except ValidationError as error:
                errors[place] = error.detail
            except _Unfit as unfit:
                errors[place] = [ErrorDetail(f": {unfit.error.message}", unfit.error.code)]
        if errors:
            raise ValidationError(errors)
        return found


class StrictSerializer(Strict, serializers.ModelSerializer):  # type: ignore[type-arg] # likewise
    """The fields of a model under their wire names, with the model's rules."""

    serializer_field_mapping = serializers.ModelSerializer.serializer_field_mapping | {
        models.CharField: TextField,
        models.DateTimeField: InstantField,
        models.DecimalField: PriceField,
        models.FloatField: NumberField,
    }
    serializer_choice_field = OneOfField

    def get_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = super().get_fields()
        for name, field in fields.items():
            if field.source is None and wire_name(name) != name:
                field.source = name
        return {wire_name(name): field for name, field in fields.items()}


class _Unfit(Exception):
    """The data as a whole is not what the serializer takes."""

    def __init__(self, error: FieldError) -> None:
        super().__init__(error.message)
        self.error = error


def decode_object(body: Buffer) -> Any:
    """Return `body` as a JSON value. Errors: `MalformedBody`."""
    try:
        require_utf8(body)
        return msgspec.json.decode(body)
    except DECODE_ERRORS as error:
        raise MalformedBody(error) from None


def validated(serializer: Strict) -> dict[str, Any]:
    """Return the values of valid data, by field of the model. Errors: `InvalidBody`."""
    if errors := field_errors(serializer):
        raise InvalidBody(*errors)
    return dict(serializer.validated_data)


def field_errors(serializer: Strict) -> list[FieldError]:
    """Return what is wrong with a serializer's data, under the wire names; empty if nothing is."""
    try:
        serializer.is_valid()
    except _Unfit as unfit:
        return [unfit.error]
    return list(errors_in(serializer.errors))


def errors_in(errors: Any, within: str = "") -> Iterator[FieldError]:
    """Yield the first error of each field: one that is no number need not be above 0 as well."""
    for key, details in errors.items():
        name = f"{within}[{key}]" if isinstance(key, int) else f"{within}.{key}".lstrip(".")
        if isinstance(details, Mapping):
            yield from errors_in(details, name)
        else:
            yield _field_error(name, details[0])


def _field_error(name: str, detail: ErrorDetail) -> FieldError:
    if detail.code == "required":
        return FieldError(name, "missing", f"{name} is required")
    if detail.code == "unique":
        return not_unique(name)
    code = str(detail.code)
    return FieldError(name, _CODES.get(code, code), f"{name} {detail}")


def not_unique(name: str) -> FieldError:
    """Return the error of a value that another object of the same kind has."""
    return FieldError(name, "not_unique", f"{name} must not be one that is already in use")


def model_errors(errors: Mapping[str, list[ModelError]], within: str = "") -> list[FieldError]:
    """Return the errors of a model's `clean`, under the wire names."""
    return [
        FieldError(
            name := f"{within}{wire_name(field)}",
            str(error.code or "invalid_format"),
            f"{name} {' '.join(error.messages)}",
        )
        for field, found in errors.items()
        for error in found
    ]
