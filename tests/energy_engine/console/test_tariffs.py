"""Tariffs in the console: who changes them, and that a week of prices can be read."""

import re
from datetime import timedelta
from decimal import Decimal
from html import unescape
from http import HTTPStatus

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from energy_engine.console.words.changes import steps_of
from energy_engine.console.words.weeks import price_words
from fleet.models import Site
from fleet.tariffs.models import SeriesPrice, Tariff, TariffRule
from tests.conftest import NOON
from tests.factories import SiteFactory
from tests.people import member_of, shown, superuser

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

ADD = reverse("admin:fleet_tariff_add")
WORKDAYS = ["mon", "tue", "wed", "thu", "fri"]
DAY = {"days": WORKDAYS, "start": "06:00", "end": "22:00", "price_per_kwh": "0.3"}
NIGHT = {"days": WORKDAYS, "start": "22:00", "end": "06:00", "price_per_kwh": "0.2"}


@pytest.fixture
def boss() -> Client:
    return superuser()


@pytest.fixture
def berlin() -> Site:
    return SiteFactory(name="Berlin", time_zone="Europe/Berlin")


def page_of(tariff: Tariff) -> str:
    return reverse("admin:fleet_tariff_change", args=[tariff.pk])


def site_page(site: Site) -> str:
    return reverse("admin:fleet_site_change", args=[site.pk])


def form(site: Site, *rules: dict[str, object], **values: object) -> dict[str, object]:
    """Return what the form of a tariff sends."""
    sent = {"site": site.pk, "valid_from": "", "kind": "time_of_use", "price_per_kwh": ""} | values
    kept = TariffRule.objects.count()
    sent |= {"rules-TOTAL_FORMS": len(rules), "rules-INITIAL_FORMS": kept}
    for number, rule in enumerate(rules):
        sent |= {f"rules-{number}-{name}": value for name, value in rule.items()}
    return sent


def errors(answer) -> str:
    assert answer.status_code == HTTPStatus.OK
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.content.decode())).split())


def use(site: Site) -> Tariff:
    """Give a site 0.30 on workdays from 06:00 to 22:00, and 0.20 in the nights after them."""
    tariff = Tariff.objects.create(site=site, kind="time_of_use")
    for start, end, price in (("06:00", "22:00", "0.3"), ("22:00", "06:00", "0.2")):
        TariffRule.objects.create(
            tariff=tariff, weekdays=[1, 2, 3, 4, 5], start=start, end=end, price_per_kwh=price
        )
    return tariff


class TestForm:
    def test_tariff_with_rules_is_added_and_logged(self, boss, berlin):
        answer = boss.post(ADD, form(berlin, DAY, NIGHT, valid_from="2026-07-01"))

        assert answer.status_code == HTTPStatus.FOUND
        tariff = Tariff.objects.get()
        assert [(rule.weekdays, str(rule), rule.price_per_kwh) for rule in tariff.rules.all()] == [
            ([1, 2, 3, 4, 5], "Mon to Fri 06:00 to 22:00", Decimal("0.3")),
            ([1, 2, 3, 4, 5], "Mon to Fri 22:00 to 06:00", Decimal("0.2")),
        ]
        steps = steps_of(LogEntry.objects.get().change_message)
        assert "Valid from: - → 2026-07-01" in steps
        assert "Mon to Fri 22:00 to 06:00: From: - → 22:00" in steps
        assert "Mon to Fri 22:00 to 06:00: Weekdays: added fri, mon, thu, tue, wed" in steps

    def test_changed_rule_is_logged_with_what_it_was(self, boss, berlin):
        tariff = use(berlin)
        day, night = tariff.rules.all()
        changed = NIGHT | {"id": night.pk, "tariff": tariff.pk, "days": ["mon"], "end": "05:00"}

        answer = boss.post(
            page_of(tariff), form(berlin, DAY | {"id": day.pk, "tariff": tariff.pk}, changed)
        )

        assert answer.status_code == HTTPStatus.FOUND, errors(answer)
        steps = steps_of(LogEntry.objects.get().change_message)
        assert sorted(steps) == [
            "Mon 22:00 to 05:00: To: 06:00 → 05:00",
            "Mon 22:00 to 05:00: Weekdays: removed fri, thu, tue, wed",
        ]

    def test_rules_that_overlap_are_refused_by_name(self, boss, berlin):
        evening = DAY | {"days": ["fri"], "start": "21:45", "end": "23:00"}

        found = errors(boss.post(ADD, form(berlin, DAY, NIGHT, evening)))

        assert (
            "“Mon to Fri 06:00 to 22:00” and “Fri 21:45 to 23:00” overlap: "
            "both have a price for Fri 21:45." in found
        )
        assert not Tariff.objects.exists()

    @pytest.mark.parametrize(
        ("values", "rules", "error"),
        [
            ({"kind": "fixed"}, [], "is required for a fixed tariff"),
            ({"kind": "series", "price_per_kwh": "1"}, [], "must be empty for a series"),
            (
                {"kind": "fixed", "price_per_kwh": "1"},
                [DAY],
                "Only a time-of-use tariff has rules.",
            ),
            ({}, [DAY | {"days": []}], "This field is required."),
            ({}, [DAY | {"price_per_kwh": "100001"}], "less than or equal to 100000"),
        ],
        ids=str,
    )
    def test_what_does_not_fit_is_refused(self, boss, berlin, values, rules, error):
        assert error in errors(boss.post(ADD, form(berlin, *rules, **values)))
        assert not Tariff.objects.exists()

    def test_two_tariffs_do_not_begin_on_one_day(self, boss):
        berlin = SiteFactory(price_per_kwh="0.3")

        found = errors(boss.post(ADD, form(berlin, kind="fixed", price_per_kwh="1")))

        assert "This site already has a tariff from this day on" in found


class TestPicture:
    def test_week_has_each_price_in_words_and_its_gaps(self, boss, berlin):
        content = shown(boss, page_of(use(berlin)))

        assert "<title>Mon 22:00 to 24:00: 0.20 EUR</title>" in content
        assert "<title>Sat 00:00 to 06:00: 0.20 EUR</title>" in content
        assert "<title>Sat 06:00 to 24:00: no price</title>" in content
        assert re.findall("<li>([^<]*)</li>", content)[-3:] == [
            "Mon 00:00 to 06:00",
            "Sat 06:00 to 24:00",
            "Sun 00:00 to 24:00",
        ]

    def test_series_shows_the_current_week_in_local_time(self, boss, berlin):
        tariff = Tariff.objects.create(site=berlin, kind="series")
        for quarter in range(4):
            SeriesPrice.objects.create(
                site=berlin,
                starts_at=NOON + quarter * timedelta(minutes=15),
                price_per_kwh="-0.05",
            )

        content = shown(boss, page_of(tariff))

        # Noon is 14:00 in Berlin.
        assert "<title>Wed 15 14:00 to 15:00: -0.05 EUR</title>" in content
        assert "<title>Wed 15 15:00 to 24:00: no price</title>" in content
        assert "<title>Mon 13 00:00 to 24:00: no price</title>" in content

    @pytest.mark.parametrize(
        ("price", "words"), [("0.300000", "0.30"), ("10", "10.00"), ("-0.0125", "-0.0125")]
    )
    def test_price_has_no_needless_zeros(self, price, words):
        assert price_words(Decimal(price)) == words


class TestSite:
    def test_page_has_the_tariffs_and_says_which_is_in_force(self, boss):
        site = SiteFactory(price_per_kwh="0.25", time_zone="Pacific/Auckland")
        # It is the 16th in Auckland.
        Tariff.objects.create(site=site, valid_from="2026-07-16", price_per_kwh="0.35")
        Tariff.objects.create(site=site, valid_from="2026-07-17", kind="series")

        content = shown(boss, site_page(site))

        words = re.findall(r"<h3>.*?</h3>", content)
        assert [re.sub("<[^>]*>", "", text) for text in words] == [
            "From 2026-07-17, series: as sent",
            "From 2026-07-16, fixed: 0.35 EUR (in force)",
            "At all times, fixed: 0.25 EUR",
        ]
        assert f'href="{ADD}?site={site.pk}"' in content

    def test_list_has_the_price_of_today(self, boss, berlin):
        use(berlin)
        SiteFactory(name="Bonn")

        content = shown(boss, reverse("admin:fleet_site_changelist"))

        assert "0.20 to 0.30 EUR" in content

    def test_lists_take_the_same_statements_however_many_tariffs(self, boss, statements_sent):
        def statements() -> list[int]:
            found = []
            for name in ("site", "tariff"):
                with statements_sent() as sent:
                    shown(boss, reverse(f"admin:fleet_{name}_changelist"))
                found.append(sent[0])
            return found

        use(SiteFactory())
        use(SiteFactory())
        shown(boss, reverse("admin:fleet_site_changelist"))
        few = statements()
        for _ in range(6):
            use(SiteFactory())
        assert statements() == few

    def test_deletion_takes_tariffs_and_prices_along_and_logs_tariffs(self, boss):
        site = SiteFactory(name="Berlin", price_per_kwh="0.3")
        SeriesPrice.objects.create(site=site, starts_at=NOON, price_per_kwh=1)

        boss.post(reverse("admin:fleet_site_delete", args=[site.pk]), {"post": "yes"})

        assert not Site.objects.exists()
        assert not Tariff.objects.exists()
        assert not SeriesPrice.objects.exists()
        logged = {entry.object_repr for entry in LogEntry.objects.all()}
        assert logged == {"Berlin", "Berlin, at all times: fixed"}


class TestPermissions:
    def test_fleet_manager_changes_tariffs_and_an_analyst_reads_them(self, berlin):
        tariff = use(berlin)
        manager, analyst = member_of("Fleet manager"), member_of("Analyst")

        assert "week-picture" in shown(analyst, page_of(tariff))
        content = shown(analyst, site_page(berlin))
        assert "week-picture" in content
        assert ADD not in content
        assert analyst.post(ADD, form(berlin, DAY)).status_code == HTTPStatus.FORBIDDEN
        assert ADD in shown(manager, site_page(berlin))
        body = form(berlin, kind="fixed", price_per_kwh="1", valid_from="2026-08-01")
        assert manager.post(ADD, body | {"rules-INITIAL_FORMS": 0}).status_code == HTTPStatus.FOUND
