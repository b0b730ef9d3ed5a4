"""The registry as CSV: columns are the names on the wire, and a round trip changes nothing."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from django.core.exceptions import ValidationError as ModelError
from django.db import models, transaction
from rest_framework.exceptions import ValidationError

from fleet.device_ids import DEVICE_ID_RULE, are_device_ids
from fleet.http.csv_answers import cell
from fleet.http.wire import instant, listed, suggestion
from fleet.models import Meter, Site, Vehicle
from fleet.registry.changes import SETTINGS, Changed, announce_changed, change_of
from fleet.registry.serializers import MeterFileSettings, VehicleFileSettings
from fleet.registry.strict import errors_in, model_errors, wire_name

Device = Meter | Vehicle
# By the column of its id, each kind of device and the serializer of its rows.
KINDS: Final[dict[str, tuple[type[Device], type[Any]]]] = {
    "meterId": (Meter, MeterFileSettings),
    "vehicleId": (Vehicle, VehicleFileSettings),
}
_FIELDS: Final = {wire_name(name): name for name in (*SETTINGS, "registered_at")}
_SAVED_AT_ONCE: Final = 500


class LineError(NamedTuple):
    """What is wrong in a line; the header is line 1."""

    line: int
    message: str


class InvalidFile(Exception):
    """Lines of the file are wrong; nothing was changed. `errors` are in the order of lines."""

    def __init__(self, errors: Sequence[LineError]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = sorted(errors)


class Imported(NamedTuple):
    """How many devices a file has created, changed, and left as they were."""

    created: int
    changed: int
    unchanged: int


class _Row(NamedTuple):
    line: int
    device_id: str
    cells: Mapping[str, str]


# --- Export -------------------------------------------------------------------------------------


def exported(id_columns: Sequence[str]) -> Iterator[list[str]]:
    """Yield the header, then a row for each device, streamed from the database."""
    yield [*id_columns, *_FIELDS]
    for id_column in id_columns:
        devices = KINDS[id_column][0].objects.select_related("site")
        for device in devices.order_by("pk").iterator(chunk_size=1_000):
            ids = [device.pk if column == id_column else "" for column in id_columns]
            yield [*ids, *(_written(getattr(device, name)) for name in _FIELDS.values())]


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, float):
        return repr(value)
    text = str(value)
    # One apostrophe more before a text that a spreadsheet would run, however many it has.
    return f"'{text}" if _is_guarded(text) else text


def _read(text: str) -> str:
    return text[1:] if text.startswith("'") and _is_guarded(text[1:]) else text


def _is_guarded(text: str) -> bool:
    bare = text.lstrip("'")
    return cell(bare) != bare


# --- Import -------------------------------------------------------------------------------------


def import_devices(
    lines: Iterable[str], *, create: bool = False, dry_run: bool = False
) -> Imported:
    """Give the devices of a file its settings, in one transaction; with `create`, also new ones.

    Only columns of the file change. An empty cell sets the default. With `dry_run`, everything is
    checked and nothing stays changed.
    Errors: `InvalidFile`.
    """
    rows = _rows(lines)
    errors: list[LineError] = []
    with transaction.atomic():
        sites = {site.name: site for site in Site.objects.all()}
        parts = [_Part(column, of_kind, sites, create) for column, of_kind in rows.items()]
        for part in parts:
            part.prepare()
            errors += part.errors
        if errors:
            raise InvalidFile(errors)
        for part in parts:
            part.save()
        if dry_run:
            transaction.set_rollback(True)
        else:
            announce_changed([change for part in parts for change in part.changed])
    return Imported(
        sum(len(part.new) for part in parts),
        sum(len(part.changed) for part in parts),
        sum(part.unchanged for part in parts),
    )


def _rows(lines: Iterable[str]) -> dict[str, list[_Row]]:
    """Return the rows of a file by the column of their id. Errors: `InvalidFile`."""
    reader = csv.reader(lines, strict=True)
    rows: dict[str, list[_Row]] = {column: [] for column in KINDS}
    errors: list[LineError] = []
    try:
        header = next(reader, [])
        _require_header(header)
        for texts in reader:
            if not any(texts):
                continue
            line = reader.line_num
            if len(texts) != len(header):
                errors.append(LineError(line, f"must have {len(header)} cells, as the header has"))
                continue
            cells = dict(zip(header, map(_read, texts), strict=True))
            named = [column for column in KINDS if cells.get(column)]
            if len(named) == 1:
                (column,) = named
                rows[column].append(_Row(line, cells[column], cells))
            else:
                errors.append(LineError(line, "must have either meterId or vehicleId"))
    except csv.Error:
        errors.append(LineError(reader.line_num, "is not valid CSV"))
    if errors:
        raise InvalidFile(errors)
    return rows


def _require_header(header: Sequence[str]) -> None:
    """Errors: `InvalidFile`."""
    known = [*KINDS, *_FIELDS]
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise InvalidFile([LineError(1, "columns must be separated by commas")])
    for name in header:
        if name not in known:
            hint = suggestion(name, known)
            raise InvalidFile([LineError(1, f"unknown column{hint} There may be {listed(known)}")])
    if len(set(header)) < len(header):
        raise InvalidFile([LineError(1, "a column occurs twice")])
    if not set(header) & set(KINDS):
        raise InvalidFile([LineError(1, "must have the column meterId or vehicleId")])


class _Refused(Exception):
    """A row is wrong; `messages` say how."""

    def __init__(self, *messages: str) -> None:
        super().__init__(*messages)
        self.messages = messages


class _Part:
    """The rows of a file for one kind of devices, on their way into the registry."""

    def __init__(
        self, id_column: str, rows: Sequence[_Row], sites: Mapping[str, Site], create: bool
    ) -> None:
        self.model, serializer = KINDS[id_column]
        self.errors: list[LineError] = []
        self.new: list[Device] = []
        self.changed: list[Changed] = []
        self.unchanged = 0
        self._id_column, self._rows, self._may_create = id_column, rows, create
        self._serializer = serializer(partial=True, context={"sites": sites})
        self._registered_at: dict[str, datetime] = {}

    def prepare(self) -> None:
        """Check each row, and set its values in a device that is not yet saved."""
        ids = [row.device_id for row in self._rows]
        well_formed = [device_id for device_id in ids if are_device_ids([device_id])]
        locked = self.model.objects.select_related("site").select_for_update(of=("self",))
        known = {device.pk: device for device in locked.filter(pk__in=well_formed).order_by("pk")}
        lines: dict[str, int] = {}
        for row in self._rows:
            try:
                if row.device_id in lines:
                    raise _Refused(f"{self._id_column} is also in line {lines[row.device_id]}")
                lines[row.device_id] = row.line
                self._take(row, known.get(row.device_id))
            except _Refused as refused:
                self.errors += [LineError(row.line, message) for message in refused.messages]
        self._require_unique_external_ids(lines)

    def save(self) -> None:
        """Save what has changed; a fixed number of statements for each 500 devices."""
        devices: models.QuerySet[Any] = self.model.objects.all()
        renamed = [one.device.pk for one in self.changed if "external_id" in one.before]
        # Two devices may exchange their ids.
        devices.filter(pk__in=renamed).update(external_id=None)
        if fields := sorted({name for change in self.changed for name in change.before}):
            changed = [change.device for change in self.changed]
            devices.bulk_update(changed, fields, batch_size=_SAVED_AT_ONCE)
        devices.bulk_create(self.new, batch_size=_SAVED_AT_ONCE)
        restored = [device for device in self.new if device.pk in self._registered_at]
        for device in restored:
            device.registered_at = self._registered_at[device.pk]
        if restored:
            devices.bulk_update(restored, ["registered_at"], batch_size=_SAVED_AT_ONCE)

    def _take(self, row: _Row, known: Device | None) -> None:
        """Set the values of a row in its device. Errors: `_Refused`."""
        self._require_may_exist(row, known)
        values = self._values(row)
        registered_at = values.pop("registered_at", None)
        if known and registered_at not in (None, known.registered_at):
            raise _Refused("registeredAt can't be changed")
        change = change_of(known or self.model(pk=row.device_id), values)
        try:
            change.device.clean()
        except ModelError as error:
            found = model_errors(error.error_dict)
            raise _Refused(*(one.message for one in found)) from None
        if known is None:
            self.new.append(change.device)
            if registered_at:
                self._registered_at[row.device_id] = registered_at
        elif change.before:
            self.changed.append(change)
        else:
            self.unchanged += 1

    def _require_may_exist(self, row: _Row, known: Device | None) -> None:
        """Errors: `_Refused`."""
        if known:
            return
        if not are_device_ids([row.device_id]):
            raise _Refused(f"{self._id_column} must be {DEVICE_ID_RULE}")
        if not self._may_create:
            kind = self.model._meta.model_name
            must = f"must be the id of a registered {kind}; new ones need --create"
            raise _Refused(f"{self._id_column} {must}")

    def _values(self, row: _Row) -> dict[str, Any]:
        """Return the valid values of a row. Errors: `_Refused`."""
        try:
            values: dict[str, Any] = self._serializer.run_validation(self._data(row))
        except ValidationError as error:
            raise _Refused(*(one.message for one in errors_in(error.detail))) from None
        return values

    def _data(self, row: _Row) -> dict[str, Any]:
        """Return the cells of a row as JSON values."""
        found = {
            column: _value(self.model._meta.get_field(_FIELDS[column]), text)
            for column, text in row.cells.items()
            if column in _FIELDS
        }
        if not row.cells.get("registeredAt"):
            found.pop("registeredAt", None)
        return found

    def _require_unique_external_ids(self, lines: Mapping[str, int]) -> None:
        found: dict[str, str] = {}
        for device in (*self.new, *(change.device for change in self.changed)):
            external_id = device.external_id
            if external_id is None:
                continue
            if external_id in found:
                other = lines[found[external_id]]
                self.errors.append(
                    LineError(lines[device.pk], f"externalId is also in line {other}")
                )
            found[external_id] = device.pk
        taken = self.model.objects.filter(external_id__in=found)
        moved = [change.device.pk for change in self.changed]
        for external_id in taken.exclude(pk__in=moved).values_list("external_id", flat=True):
            line = lines[found[str(external_id)]]
            self.errors.append(LineError(line, "externalId must not be one that is already in use"))


def _value(field: Any, text: str) -> Any:
    """Return the text of a cell as a JSON value; the default of `field` if it is empty."""
    if text == "":
        default = field.get_default()
        return str(default) if isinstance(default, str) else default
    if isinstance(field, models.FloatField):
        try:
            return msgspec.json.decode(text, type=float)
        except (msgspec.DecodeError, UnicodeEncodeError):
            return text  # which is refused as no number
    return text
