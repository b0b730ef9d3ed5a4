"""Links: one meter per vehicle at any instant, changed by one writer."""

import threading
from datetime import datetime, timedelta
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import given, settings

from fleet.links import (
    EndsBeforeItBegins,
    LinkHasBegun,
    LinksHaveChanged,
    NoLinkInForce,
    OutOfBounds,
    UnknownDevice,
    end_link,
    link_vehicle,
    links_changed,
    undo,
    unlink_vehicle,
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
    link, change = link_vehicle("V1", "M1")

    assert change.is_new
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

    assert superseded == [("M1", at("09:00"), at("10:00")), ("M2", at("10:00"), NOON)]


def test_link_that_begins_with_the_one_in_force_replaces_it(clock):
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V1", "M2", at("08:00"))

    assert spans() == [("M2", at("08:00"), None)]


def test_same_link_again_changes_nothing(clock):
    link_vehicle("V1", "M1", at("08:00"))
    link, change = link_vehicle("V1", "M1")

    assert not change.is_new
    assert link.valid_during.lower == at("08:00")
    assert spans() == [("M1", at("08:00"), None)]


def test_slip_that_is_undone_leaves_one_link(clock):
    first = link_vehicle("V1", "M1", at("08:00")).link
    slip = link_vehicle("V1", "M2", at("10:30"))
    undone = link_vehicle("V1", "M1", at("10:30"))

    assert spans() == [("M1", at("08:00"), None)]
    assert slip.superseded == [("M1", at("10:30"), None)]
    assert (undone.link.pk, undone.is_new) == (first.pk, True)
    assert undone.superseded == [("M2", at("10:30"), None)]


def test_link_that_was_to_end_goes_on_when_it_is_made_again(clock):
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V1", "M2", at("13:00"))
    again = link_vehicle("V1", "M1", at("10:00"))

    assert spans() == [("M1", at("08:00"), None)]
    assert again.superseded == [("M1", at("10:00"), at("13:00")), ("M2", at("13:00"), None)]


def test_link_after_a_gap_is_another_one(clock):
    link_vehicle("V1", "M1", at("08:00"))
    end_link("V1")
    again = link_vehicle("V1", "M1", at("12:30"))

    assert spans() == [("M1", at("08:00"), NOON), ("M1", at("12:30"), None)]
    assert again.superseded == []


def test_vehicles_are_linked_independently(clock):
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V2", "M1", at("09:00"))

    assert spans("V1") == [("M1", at("08:00"), None)]


# --- Links of the past, gaps, and undoing -----------------------------------------------------


def test_link_with_an_end_leaves_what_lies_around_it(clock):
    whole = link_vehicle("V1", "M1", at("08:00")).link
    guest = link_vehicle("V1", "M2", at("09:00"), at("10:00"))

    assert spans() == [
        ("M1", at("08:00"), at("09:00")),
        ("M2", at("09:00"), at("10:00")),
        ("M1", at("10:00"), None),
    ]
    assert guest.superseded == [("M1", at("09:00"), at("10:00"))]
    assert VehicleMeterLink.objects.get(valid_during__contains=at("08:30")).pk == whole.pk


def test_link_with_an_end_cuts_what_begins_before_that_end(clock):
    link_vehicle("V1", "M1", at("08:00"), at("09:30"))
    later = link_vehicle("V1", "M2", at("09:30")).link
    moved = link_vehicle("V1", "M3", at("09:00"), at("11:00"))

    assert spans() == [
        ("M1", at("08:00"), at("09:00")),
        ("M3", at("09:00"), at("11:00")),
        ("M2", at("11:00"), None),
    ]
    assert moved.superseded == [
        ("M1", at("09:00"), at("09:30")),
        ("M2", at("09:30"), at("11:00")),
    ]
    assert VehicleMeterLink.objects.get(meter_id="M2").pk == later.pk


def test_adjacent_links_of_one_pair_are_one_link(clock):
    first = link_vehicle("V1", "M1", at("08:00"), at("09:00")).link
    link_vehicle("V1", "M1", at("10:00"), at("11:00"))
    between = link_vehicle("V1", "M1", at("09:00"), at("10:00"))

    assert spans() == [("M1", at("08:00"), at("11:00"))]
    assert (between.link.pk, between.is_new, between.superseded) == (first.pk, True, [])


def test_link_within_a_longer_one_changes_nothing(clock):
    whole = link_vehicle("V1", "M1", at("08:00")).link
    again = link_vehicle("V1", "M1", at("09:00"), at("10:00"))

    assert (again.link.pk, again.is_new, again.superseded) == (whole.pk, False, [])
    assert spans() == [("M1", at("08:00"), None)]


def test_link_is_extended_until_further_notice(clock):
    link_vehicle("V1", "M1", at("08:00"), at("13:00"))
    longer = link_vehicle("V1", "M1")

    # What it was is named, so that the extension can be undone.
    assert longer.superseded == [("M1", NOON, at("13:00"))]
    assert spans() == [("M1", at("08:00"), None)]


def test_gap_is_cut_out_of_a_link(clock):
    link_vehicle("V1", "M1", at("08:00"))
    gap = unlink_vehicle("V1", at("09:00"), at("10:00"))

    assert spans() == [("M1", at("08:00"), at("09:00")), ("M1", at("10:00"), None)]
    assert gap.superseded == [("M1", at("09:00"), at("10:00"))]
    assert unlink_vehicle("V1", at("09:00"), at("10:00")).superseded == []


def test_gap_begins_now_and_has_no_end_unless_told(clock):
    link_vehicle("V1", "M1", at("08:00"), at("13:00"))
    link_vehicle("V1", "M2", at("13:00"), at("14:00"))
    link_vehicle("V1", "M3", at("15:00"))
    until = unlink_vehicle("V1", ends_at=at("13:30"))

    assert (until.starts_at, until.ends_at) == (NOON, at("13:30"))
    assert spans() == [
        ("M1", at("08:00"), NOON),
        ("M2", at("13:30"), at("14:00")),
        ("M3", at("15:00"), None),
    ]
    assert len(unlink_vehicle("V1", at("11:00")).superseded) == 3
    assert spans() == [("M1", at("08:00"), at("11:00"))]


def test_gap_needs_a_vehicle(clock):
    with pytest.raises(UnknownDevice, match="Vehicle not found"):
        unlink_vehicle("V1", at("09:00"))


@pytest.mark.parametrize(
    ("starts_at", "ends_at", "message"),
    [
        (at("10:00"), at("10:00"), "validTo must be after validFrom"),
        (at("10:00"), at("09:00"), "validTo must be after validFrom"),
        (None, NOON, r"validTo must be after validFrom \(now, because it is absent\)"),
    ],
)
def test_link_ends_after_it_begins(clock, starts_at, ends_at, message):
    with pytest.raises(EndsBeforeItBegins, match=f"^{message}$"):
        link_vehicle("V1", "M1", starts_at, ends_at)


@pytest.mark.parametrize("days", [-10_000, 3_651])
def test_both_ends_of_a_link_have_bounds(clock, days):
    far = NOON + timedelta(days=days)

    with pytest.raises(OutOfBounds, match=r"^validFrom must be in the year 2000 or later"):
        link_vehicle("V1", "M1", far)
    with pytest.raises(OutOfBounds, match=r"^validTo must be in the year 2000 or later"):
        link_vehicle("V1", "M1", at("08:00"), far)
    with pytest.raises(OutOfBounds, match=r"^to must be in the year 2000 or later"):
        unlink_vehicle("V1", at("08:00"), far)


def test_change_can_be_undone(clock):
    link_vehicle("V1", "M1", at("08:00"), at("09:00"))
    link_vehicle("V1", "M2", at("10:00"), at("12:30"))
    link_vehicle("V1", "M3", at("13:00"))
    before = spans()

    for change in (
        lambda: link_vehicle("V1", "M1", at("08:30")).change,
        lambda: unlink_vehicle("V1", at("08:30"), at("11:00")),
        lambda: end_link("V1").change,
        lambda: withdraw_link(VehicleMeterLink.objects.get(meter_id="M3").pk),
    ):
        done = change()
        assert spans() != before
        undo(done)
        assert spans() == before


def test_nothing_is_undone_once_links_have_changed_again(clock):
    link_vehicle("V1", "M1", at("08:00"))
    slip = link_vehicle("V1", "M2", at("09:00")).change
    link_vehicle("V1", "M3", at("10:00"), at("11:00"))
    before = spans()

    with pytest.raises(LinksHaveChanged):
        undo(slip)
    assert spans() == before


def test_change_elsewhere_on_the_timeline_does_not_prevent_undoing(clock):
    link_vehicle("V1", "M1", at("08:00"))
    slip = link_vehicle("V1", "M2", at("09:00"), at("10:00")).change
    link_vehicle("V1", "M2", at("10:00"), at("11:00"))
    undo(slip)

    assert spans() == [
        ("M1", at("08:00"), at("10:00")),
        ("M2", at("10:00"), at("11:00")),
        ("M1", at("11:00"), None),
    ]


def test_meter_that_is_gone_is_registered_when_a_change_is_undone(clock):
    link_vehicle("V1", "M1", at("08:00"))
    slip = link_vehicle("V1", "M2", at("08:00")).change
    Meter.objects.filter(pk="M1").delete()
    undo(slip)

    assert spans() == [("M1", at("08:00"), None)]
    assert Meter.objects.filter(pk="M1").exists()


def test_statements_do_not_grow_with_what_is_superseded(clock, statements_sent):
    def statements(hours: int) -> list[str]:
        for number in range(hours):
            starts_at = NOON - timedelta(hours=2 * number + 2)
            link_vehicle("V1", f"M{number}", starts_at, starts_at + timedelta(hours=1))
        with statements_sent() as sent:
            link_vehicle("V1", "M0", NOON - timedelta(hours=2 * hours + 1))
        return list(sent)

    assert len(statements(2)) == len(statements(40))


# A minute of the timeline is an index; the last one stands for all time after it.
MINUTES = 14
METERS = st.sampled_from(["M1", "M2", "M3"])
BEGIN = st.integers(0, MINUTES - 2)
LENGTH = st.none() | st.integers(1, MINUTES)
CHANGE = st.tuples(METERS | st.none(), BEGIN, LENGTH)


def minute(number: int | None) -> datetime | None:
    return None if number is None or number >= MINUTES else NOON + timedelta(minutes=number)


def by_minute() -> list[str | None]:
    """Return the meter that the vehicle is linked to in each minute."""
    meters: list[str | None] = [None] * MINUTES
    for meter_id, starts_at, ends_at in spans():
        for number in range(MINUTES):
            if starts_at <= minute(number) and (ends_at is None or minute(number) < ends_at):
                meters[number] = meter_id
    return meters


def change_links(meter_id: str | None, begin: int, length: int | None):
    """Make a link, or a gap if there is no meter."""
    starts_at, ends_at = minute(begin), minute(None if length is None else begin + length)
    if meter_id is None:
        return unlink_vehicle("V1", starts_at, ends_at)
    return link_vehicle("V1", meter_id, starts_at, ends_at).change


@settings(max_examples=60)
@given(changes=st.lists(CHANGE, max_size=10))
def test_links_are_what_a_list_of_minutes_says(changes):
    """Any sequence of links and gaps, then undone one by one, against a list of minutes."""
    with transaction.atomic():
        Vehicle.objects.get_or_create(vehicle_id="V1")
        model: list[str | None] = [None] * MINUTES
        past = []
        for meter_id, begin, length in changes:
            end = MINUTES if length is None else min(begin + length, MINUTES)
            before = list(model)
            model[begin:end] = [meter_id] * (end - begin)
            stored = spans()
            change = change_links(meter_id, begin, length)

            assert by_minute() == model
            assert change.is_new == (model != before)
            lost = [None] * MINUTES
            for lost_meter, starts_at, ends_at in change.superseded:
                for number in range(begin, end):
                    if starts_at <= minute(number) and (not ends_at or minute(number) < ends_at):
                        lost[number] = lost_meter
            assert lost[begin:end] == before[begin:end]
            links = spans()
            assert not any(a[0] == b[0] and a[2] == b[1] for a, b in pairwise(links))
            assert all(a[2] and a[2] <= b[1] for a, b in pairwise(links))
            # The same again changes nothing.
            assert not change_links(meter_id, begin, length).is_new
            assert spans() == links
            past.append((change, stored))
        for number, (change, stored) in enumerate(reversed(past)):
            if number % 2:
                undo(change)
            else:  # as over the API
                unlink_vehicle("V1", change.starts_at, change.ends_at)
                for part in change.superseded:
                    link_vehicle("V1", *part)
            assert spans() == stored
        transaction.set_rollback(True)


def test_ended_link_lasts_until_now(clock):
    link_vehicle("V1", "M1", at("08:00"))
    ended = end_link("V1").link

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

    assert withdrawn.superseded == [("M1", at("13:00"), None)]
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

    def hear(vehicle_id: str, meter_ids: set[str], **_: object) -> None:
        heard.append((vehicle_id, meter_ids))

    links_changed.connect(hear)
    with django_capture_on_commit_callbacks() as callbacks:
        link_vehicle("V1", "M1")
        assert heard == []
    for callback in callbacks:
        callback()

    assert heard == [("V1", {"M1"})]


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


@pytest.mark.django_db(transaction=True)
def test_concurrent_changes_of_the_past_supersede_each_other_one_by_one():
    superseded: list[str] = []
    errors: list[Exception] = []
    link_vehicle("V1", "M", at("08:00"), at("10:00"))

    def change(name: str) -> None:
        try:
            for number in range(10):
                made = link_vehicle("V1", f"{name}-{number}", at("08:00"), at("10:00"))
                superseded.extend(part.meter_id for part in made.superseded)
                unlink_vehicle("V1", at("09:30"), at("09:45"))
                link_vehicle("V1", "GUEST", at("11:00"), at("12:00"))
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=change, args=[f"M{number}"]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    # Each link of the span was superseded by one other, so no change was lost.
    left = {meter_id for meter_id, *_ in spans()} - {"GUEST"}
    ever = {"M", *(f"M{thread}-{number}" for thread in range(2) for number in range(10))}
    assert len(left) == 1
    assert set(superseded) == ever - left
    assert spans()[-1] == ("GUEST", at("11:00"), at("12:00"))
