"""Links: one meter per vehicle at any instant, changed by one writer."""

import threading
from itertools import pairwise

import pytest
from django.db import IntegrityError, connection, transaction

from fleet.links import (
    LinkHasBegun,
    NoLinkInForce,
    UnknownDevice,
    end_link,
    link_vehicle,
    links_changed,
    withdraw_link,
)
from fleet.models import Meter, Vehicle, VehicleMeterLink
from tests.conftest import NOON, at

pytestmark = pytest.mark.django_db


def spans(vehicle_id: str = "V1") -> list[tuple[str, object, object]]:
    """Return the vehicle's links, oldest first."""
    links = VehicleMeterLink.objects.filter(vehicle_id=vehicle_id).order_by("valid_during")
    return [(link.meter_id, link.valid_during.lower, link.valid_during.upper) for link in links]


def test_link_begins_now_unless_told(clock):
    link, is_new, *_ = link_vehicle("V1", "M1")

    assert is_new
    assert (link.valid_during.lower, link.valid_during.upper) == (NOON, None)


def test_new_link_ends_the_one_in_force(clock):
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V1", "M2", at("10:00"))

    assert spans() == [("M1", at("08:00"), at("10:00")), ("M2", at("10:00"), None)]


def test_link_from_before_the_one_in_force_supersedes_it(clock):
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V1", "M2", at("10:00"))
    link_vehicle("V1", "M3", at("09:00"))

    assert spans() == [("M1", at("08:00"), at("09:00")), ("M3", at("09:00"), None)]


def test_links_that_are_superseded_are_named(clock):
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V1", "M2", at("10:00"))
    end_link("V1")

    superseded = link_vehicle("V1", "M3", at("09:00")).superseded

    assert [(link.meter_id, link.valid_during.upper) for link in superseded] == [("M2", NOON)]


def test_link_that_begins_with_the_one_in_force_replaces_it(clock):
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V1", "M2", at("08:00"))

    assert spans() == [("M2", at("08:00"), None)]


def test_same_link_again_changes_nothing(clock):
    link_vehicle("V1", "M1", at("08:00"))
    link, is_new, *_ = link_vehicle("V1", "M1")

    assert not is_new
    assert link.valid_during.lower == at("08:00")
    assert spans() == [("M1", at("08:00"), None)]


def test_slip_that_is_undone_leaves_one_link(clock):
    first = link_vehicle("V1", "M1", at("08:00")).link
    slip = link_vehicle("V1", "M2", at("10:30"))
    undone = link_vehicle("V1", "M1", at("10:30"))

    assert spans() == [("M1", at("08:00"), None)]
    assert (slip.ended.pk, slip.superseded) == (first.pk, [])
    assert (undone.link.pk, undone.is_new, undone.ended) == (first.pk, True, None)
    assert [link.meter_id for link in undone.superseded] == ["M2"]


def test_link_that_was_to_end_goes_on_when_it_is_made_again(clock):
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V1", "M2", at("13:00"))
    again = link_vehicle("V1", "M1", at("10:00"))

    assert spans() == [("M1", at("08:00"), None)]
    assert (again.ended, [link.meter_id for link in again.superseded]) == (None, ["M2"])


def test_link_after_a_gap_is_another_one(clock):
    link_vehicle("V1", "M1", at("08:00"))
    end_link("V1")
    again = link_vehicle("V1", "M1", at("12:30"))

    assert spans() == [("M1", at("08:00"), NOON), ("M1", at("12:30"), None)]
    assert again.ended is None


def test_vehicles_are_linked_independently(clock):
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V2", "M1", at("09:00"))

    assert spans("V1") == [("M1", at("08:00"), None)]


def test_ended_link_lasts_until_now(clock):
    link_vehicle("V1", "M1", at("08:00"))
    ended = end_link("V1")

    assert ended.valid_during.upper == NOON
    assert spans() == [("M1", at("08:00"), NOON)]


def test_link_that_ends_the_instant_it_began_leaves_nothing(clock):
    link_vehicle("V1", "M1")
    end_link("V1")

    assert spans() == []


def test_future_link_is_not_in_force(clock):
    link_vehicle("V1", "M1", at("13:00"))

    with pytest.raises(NoLinkInForce):
        end_link("V1")


def test_link_that_has_not_begun_can_be_withdrawn(clock):
    planned = link_vehicle("V1", "M1", at("13:00")).link
    withdrawn = withdraw_link(planned.pk)

    assert (withdrawn.pk, withdrawn.meter_id) == (planned.pk, "M1")
    assert spans() == []


def test_link_that_was_to_end_goes_on_when_the_next_is_withdrawn(clock):
    link_vehicle("V1", "M1", at("08:00"))
    withdraw_link(link_vehicle("V1", "M2", at("13:00")).link.pk)

    assert spans() == [("M1", at("08:00"), None)]


def test_link_before_goes_on_up_to_the_one_after(clock):
    link_vehicle("V1", "M1", at("08:00"))
    planned = link_vehicle("V1", "M2", at("13:00")).link
    link_vehicle("V1", "M3", at("15:00"))
    withdraw_link(planned.pk)

    assert spans() == [("M1", at("08:00"), at("15:00")), ("M3", at("15:00"), None)]


def test_link_that_was_ended_by_hand_stays_ended(clock):
    link_vehicle("V1", "M1", at("08:00"))
    planned = link_vehicle("V1", "M2", at("13:00")).link
    end_link("V1")
    withdraw_link(planned.pk)

    assert spans() == [("M1", at("08:00"), NOON)]


def test_other_vehicles_keep_their_links_when_one_is_withdrawn(clock):
    link_vehicle("V2", "M1", at("08:00"))
    link_vehicle("V2", "M2", at("13:00"))
    withdraw_link(link_vehicle("V1", "M3", at("13:00")).link.pk)

    assert spans("V2") == [("M1", at("08:00"), at("13:00")), ("M2", at("13:00"), None)]


@pytest.mark.parametrize("begins", ["08:00", "12:00"])
def test_link_that_has_begun_is_not_withdrawn(clock, begins):
    begun = link_vehicle("V1", "M1", at(begins)).link

    with pytest.raises(LinkHasBegun):
        withdraw_link(begun.pk)
    assert spans() == [("M1", at(begins), None)]


def test_link_that_is_gone_is_not_withdrawn(clock):
    planned = link_vehicle("V1", "M1", at("13:00")).link
    withdraw_link(planned.pk)

    with pytest.raises(LinkHasBegun):
        withdraw_link(planned.pk)


def test_withdrawal_is_announced_after_the_commit(clock, django_capture_on_commit_callbacks):
    planned = link_vehicle("V1", "M1", at("13:00")).link
    heard = []

    def hear(vehicle_id: str, **_: object) -> None:
        heard.append(vehicle_id)

    links_changed.connect(hear)
    with django_capture_on_commit_callbacks(execute=True):
        withdraw_link(planned.pk)
        assert heard == []

    assert heard == ["V1"]


def test_devices_register_themselves(clock):
    link_vehicle("V1", "M1")

    assert (Vehicle.objects.get().pk, Meter.objects.get().pk) == ("V1", "M1")


def test_unknown_devices_are_refused_where_they_do_not_register(clock, settings):
    settings.INGEST_UNKNOWN_DEVICES = "reject"
    Vehicle.objects.create(vehicle_id="V1")

    with pytest.raises(UnknownDevice, match="Meter not found"):
        link_vehicle("V1", "M1")
    assert spans() == []


def test_change_is_announced_after_the_commit(clock, django_capture_on_commit_callbacks):
    heard = []

    def hear(vehicle_id: str, **_: object) -> None:
        heard.append(vehicle_id)

    links_changed.connect(hear)
    with django_capture_on_commit_callbacks() as callbacks:
        link_vehicle("V1", "M1")
        assert heard == []
    for callback in callbacks:
        callback()

    assert heard == ["V1"]


def test_database_itself_refuses_two_meters_at_one_instant(clock):
    link_vehicle("V1", "M1", at("08:00"))

    with pytest.raises(IntegrityError), transaction.atomic():
        VehicleMeterLink.objects.create(
            vehicle_id="V1", meter_id="M2", valid_during=(at("09:00"), at("10:00"))
        )


@pytest.mark.django_db(transaction=True)
def test_concurrent_links_of_one_vehicle_follow_each_other():
    errors: list[Exception] = []

    def change(meter_id: str) -> None:
        try:
            for _ in range(10):
                link_vehicle("V1", meter_id)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=change, args=[f"M{number}"]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    links = spans()
    assert links[-1][2] is None
    assert all(before[2] == after[1] for before, after in pairwise(links))
