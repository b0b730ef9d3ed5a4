"""Tell the registry what a file says of its devices, and ask which of them it knows."""

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Final

from django.db import connection, transaction

from fleet.models import Meter, Vehicle
from fleet.registers import announce_register
from ingestion.external_ids import external_ids
from ingestion.readings import DeviceKind

_MODELS: Final[dict[DeviceKind, type[Meter] | type[Vehicle]]] = {
    DeviceKind.METER: Meter,
    DeviceKind.VEHICLE: Vehicle,
}
_AT_ONCE: Final = 10_000
_MOST_SHOWN: Final = 5
_CALLED: Final = {
    "interval": "an interval register",
    "counter": "a counter",
    "session_counter": "a session counter",
}

Device = tuple[DeviceKind, str]


class Registry:
    """The registry as an import sees it: which devices are new, and what their values are."""

    def __init__(self) -> None:
        self._seen: set[Device] = set()
        self._new: set[Device] = set()

    def notice(self, registers: Mapping[Device, str]) -> None:
        """Remember which of these devices are not registered yet, before they are."""
        unseen = registers.keys() - self._seen
        if unseen:
            self._seen |= unseen
            self._new |= unseen - known(unseen)

    def set_new(self, registers: Mapping[Device, str], stored: Collection[Device]) -> None:
        """Give devices that a block has just registered the register that its values have."""
        of_register: dict[tuple[DeviceKind, str], list[str]] = {}
        for device in self._new & set(stored) & registers.keys():
            self._new.discard(device)
            of_register.setdefault((device[0], registers[device]), []).append(device[1])
        for (kind, register), ids in of_register.items():
            _set_register(kind, register, ids)

    def remarks(self, registers: Mapping[Device, str]) -> list[str]:
        """Return what the person must change where a known device is counted in another way."""
        wrong: dict[tuple[str, str], list[str]] = {}
        by_id = _by_id(registers)
        for kind, id_, own in _registers(by_id):
            told = by_id[kind, id_]
            if own != told:
                wrong.setdefault((own, told), []).append(id_)
        return [
            f"{_some(ids)}: registered as {_CALLED[own]}, but the values in the file are of "
            f"{_CALLED[told]}: change the energy register on the device's page in the console; "
            "figures of all times follow at once"
            for (own, told), ids in wrong.items()
        ]


def known(devices: Collection[Device]) -> set[Device]:
    """Return which of the devices are registered, by their ids or external ids.

    A statement per kind and 10,000 of them, and one per kind for those that are no ids.
    """
    ids = _known_ids(devices)
    return ids | external_ids.devices(set(devices) - ids).keys()


def _known_ids(devices: Iterable[Device]) -> set[Device]:
    try:
        return {
            (kind, id_)
            for kind, ids in _portions(devices)
            for id_ in _MODELS[kind].objects.filter(pk__in=ids).values_list("pk", flat=True)
        }
    finally:
        connection.close()


def _by_id(registers: Mapping[Device, str]) -> dict[Device, str]:
    """Return registers by the ids of devices, some of which a file names by their external ids."""
    named = external_ids.devices(registers.keys() - _known_ids(registers))
    return {
        (kind, named.get((kind, name), name)): register
        for (kind, name), register in registers.items()
    }


def _registers(devices: Iterable[Device]) -> list[tuple[DeviceKind, str, str]]:
    try:
        return [
            (kind, id_, register)
            for kind, ids in _portions(devices)
            for id_, register in _MODELS[kind]
            .objects.filter(pk__in=ids)
            .values_list("pk", "energy_register")
            .order_by("pk")
        ]
    finally:
        connection.close()


def _portions(devices: Iterable[Device]) -> Iterable[tuple[DeviceKind, list[str]]]:
    by_kind: dict[DeviceKind, list[str]] = {}
    for kind, id_ in devices:
        by_kind.setdefault(kind, []).append(id_)
    for kind, ids in by_kind.items():
        rest = iter(ids)
        while some := list(islice(rest, _AT_ONCE)):
            yield kind, some


def _set_register(kind: DeviceKind, register: str, ids: Collection[str]) -> None:
    model = _MODELS[kind]
    try:
        with transaction.atomic():
            others = list(model.objects.filter(pk__in=ids).exclude(energy_register=register))
            model.objects.filter(pk__in=[device.pk for device in others]).update(
                energy_register=register
            )
            announce_register(*others)
    finally:
        connection.close()


def _some(ids: list[str]) -> str:
    more = len(ids) - _MOST_SHOWN
    return ", ".join(ids[:_MOST_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
