"""Tariffs and prices of sites over HTTP."""

import pytest

from fleet.access.issuing import make_key
from fleet.models import Site
from fleet.tariffs.models import SeriesPrice, Tariff, TariffRule
from tests.callers import MANAGE, READ, Caller
from tests.conftest import NOON
from tests.factories import SiteFactory

pytestmark = pytest.mark.django_db

WORKDAYS = ["mon", "tue", "wed", "thu", "fri"]
DAY = {"weekdays": WORKDAYS, "start": "06:00", "end": "22:00", "pricePerKwh": 0.3}
NIGHT = {"weekdays": WORKDAYS, "start": "22:00", "end": "06:00", "pricePerKwh": 0.2}


@pytest.fixture
def berlin() -> Site:
    return SiteFactory(name="Berlin", time_zone="Europe/Berlin")


@pytest.fixture
def tariffs(berlin) -> str:
    return f"/v1/sites/{berlin.pk}/tariffs"


@pytest.fixture
def prices(berlin) -> str:
    return f"/v1/sites/{berlin.pk}/prices"


def refusal(answer) -> tuple[str, str, str]:
    """Return the first error of a 400: field, code and message."""
    assert answer.status_code == 400, answer.content
    (error, *_) = answer.json()["errors"]
    return error["field"], error["code"], error["message"]


class TestTariffs:
    def test_tariff_is_added_listed_replaced_and_deleted(self, api, tariffs):
        use = {"kind": "time_of_use", "validFrom": "2026-07-01", "rules": [NIGHT, DAY]}

        made = api.post(tariffs, use)
        fixed = api.post(tariffs, {"kind": "fixed", "pricePerKwh": 0.25})

        assert made.status_code == fixed.status_code == 201
        assert made.json() == {
            "id": made.json()["id"],
            "validFrom": "2026-07-01",
            "kind": "time_of_use",
            "pricePerKwh": None,
            "rules": [NIGHT, DAY],
            "gaps": [
                {"weekdays": ["mon"], "start": "00:00", "end": "06:00"},
                {"weekdays": ["sat"], "start": "06:00", "end": "00:00"},
                {"weekdays": ["sun"], "start": "00:00", "end": "00:00"},
            ],
        }
        assert api.get(tariffs).json() == {"results": [fixed.json(), made.json()]}

        path = f"{tariffs}/{made.json()['id']}"
        replaced = api.put(path, {"kind": "series", "validFrom": "2026-08-01"})
        assert replaced.json() == {
            "id": made.json()["id"],
            "validFrom": "2026-08-01",
            "kind": "series",
            "pricePerKwh": None,
            "rules": [],
            "gaps": None,
        }
        assert not TariffRule.objects.exists()
        assert api.delete(path).json() == replaced.json()
        assert api.get(tariffs).json() == {"results": [fixed.json()]}

    def test_fallback_leaves_no_gap(self, api, tariffs):
        body = {"kind": "time_of_use", "pricePerKwh": -0.05, "rules": [NIGHT]}

        made = api.post(tariffs, body).json()

        assert (made["pricePerKwh"], made["gaps"]) == (-0.05, [])

    @pytest.mark.parametrize(
        ("body", "field", "code"),
        [
            ({}, "kind", "missing"),
            ({"kind": "free"}, "kind", "invalid_format"),
            ({"kind": "fixed"}, "pricePerKwh", "missing"),
            ({"kind": "fixed", "pricePerKwh": "0.3"}, "pricePerKwh", "wrong_type"),
            ({"kind": "fixed", "pricePerKwh": 100_001}, "pricePerKwh", "out_of_range"),
            ({"kind": "fixed", "pricePerKwh": 0.0000001}, "pricePerKwh", "out_of_range"),
            ({"kind": "series", "pricePerKwh": 1}, "pricePerKwh", "conflict"),
            ({"kind": "series", "rules": [DAY]}, "rules", "conflict"),
            ({"kind": "time_of_use", "rules": DAY}, "rules", "wrong_type"),
            ({"kind": "time_of_use", "rules": [DAY, 1]}, "rules[1]", "wrong_type"),
            ({"kind": "time_of_use", "rules": [DAY, {}]}, "rules[1].weekdays", "missing"),
            (
                {"kind": "time_of_use", "rules": [DAY | {"to": "1"}]},
                "rules[0]",
                "unknown_field",
            ),
            (
                {"kind": "time_of_use", "rules": [DAY, NIGHT | {"end": "06:10"}]},
                "rules[1].end",
                "invalid_format",
            ),
            (
                {"kind": "time_of_use", "rules": [DAY | {"start": 6}]},
                "rules[0].start",
                "wrong_type",
            ),
            (
                {"kind": "time_of_use", "rules": [DAY | {"weekdays": []}]},
                "rules[0].weekdays",
                "out_of_range",
            ),
            (
                {"kind": "time_of_use", "rules": [DAY | {"weekdays": ["monday"]}]},
                "rules[0].weekdays",
                "invalid_format",
            ),
            (
                {"kind": "time_of_use", "rules": [DAY | {"weekdays": [[]]}]},
                "rules[0].weekdays",
                "invalid_format",
            ),
            (
                {"kind": "time_of_use", "rules": [DAY | {"weekdays": ["mon", "mon"]}]},
                "rules[0].weekdays",
                "conflict",
            ),
            ({"kind": "series", "validFrom": "July"}, "validFrom", "invalid_format"),
            ({"kind": "series", "gaps": []}, "gaps", "read_only"),
            ({"kind": "series", "price": 1}, None, "unknown_field"),
        ],
        ids=str,
    )
    def test_bad_tariff_names_the_field_and_the_place(self, api, tariffs, body, field, code):
        assert refusal(api.post(tariffs, body))[:2] == (field, code)
        assert not Tariff.objects.exists()

    def test_overlap_names_both_rules_and_the_time(self, api, tariffs):
        evening = {"weekdays": ["fri"], "start": "21:45", "end": "23:00", "pricePerKwh": 0.4}

        answer = api.post(tariffs, {"kind": "time_of_use", "rules": [DAY, NIGHT, evening]})

        assert refusal(answer) == (
            "rules[2]",
            "conflict",
            "rules[2] must not overlap rules[0]: both have a price for Fri 21:45",
        )

    def test_message_names_limits(self, api, tariffs):
        _, _, message = refusal(api.post(tariffs, {"kind": "fixed", "pricePerKwh": 1e9}))
        assert message == "pricePerKwh must be a number from -100,000 to 100,000"

        answer = api.post(tariffs, {"kind": "fixed", "pricePerKwh": 0.1234567})
        assert refusal(answer)[2] == "pricePerKwh must have at most 6 decimal places"

    @pytest.mark.parametrize("start", [None, "2026-07-01"])
    def test_two_tariffs_do_not_begin_on_one_day(self, api, tariffs, start):
        body = {"kind": "fixed", "pricePerKwh": 1, "validFrom": start}
        first = api.post(tariffs, body).json()
        other = api.post(tariffs, body | {"validFrom": "2026-09-01"}).json()

        assert refusal(api.post(tariffs, body))[:2] == ("validFrom", "not_unique")
        assert refusal(api.put(f"{tariffs}/{other['id']}", body))[:2] == ("validFrom", "not_unique")
        assert api.put(f"{tariffs}/{first['id']}", body | {"pricePerKwh": 2}).status_code == 200

    def test_tariff_of_another_site_is_not_found(self, api, tariffs):
        other = Tariff.objects.create(site=SiteFactory(), price_per_kwh=1)

        answer = api.delete(f"{tariffs}/{other.pk}")

        assert (answer.status_code, answer.json()["message"]) == (404, "Tariff not found")
        assert api.get("/v1/sites/0/tariffs").json()["message"] == "Site not found"

    def test_statements_do_not_grow_with_tariffs(self, api, berlin, tariffs, statements_sent):
        def statements() -> int:
            with statements_sent() as sent:
                api.get(tariffs)
            return sent[0]

        api.post(tariffs, {"kind": "time_of_use", "rules": [NIGHT]})
        few = statements()
        for month in range(1, 9):
            body = {"kind": "time_of_use", "validFrom": f"2026-0{month}-01", "rules": [NIGHT]}
            api.post(tariffs, body)
        assert statements() == few


class TestPrices:
    def test_prices_in_force_fill_the_span(self, api, tariffs, prices):
        api.post(tariffs, {"kind": "time_of_use", "rules": [NIGHT], "validFrom": "2026-07-15"})

        answer = api.get(f"{prices}?start=2026-07-14T20:00:00Z&end=2026-07-15T22:00:00Z")

        # Berlin is two hours ahead of UTC; the night before Wednesday begins on Tuesday.
        assert answer.json() == {
            "start": "2026-07-14T20:00:00Z",
            "end": "2026-07-15T22:00:00Z",
            "currency": "EUR",
            "results": [
                {
                    "start": "2026-07-14T20:00:00Z",
                    "end": "2026-07-14T22:00:00Z",
                    "pricePerKwh": None,
                },
                {
                    "start": "2026-07-14T22:00:00Z",
                    "end": "2026-07-15T04:00:00Z",
                    "pricePerKwh": 0.2,
                },
                {
                    "start": "2026-07-15T04:00:00Z",
                    "end": "2026-07-15T20:00:00Z",
                    "pricePerKwh": None,
                },
                {
                    "start": "2026-07-15T20:00:00Z",
                    "end": "2026-07-15T22:00:00Z",
                    "pricePerKwh": 0.2,
                },
            ],
        }

    @pytest.mark.parametrize(
        ("query", "start", "end"),
        [
            ("", "2026-07-15T12:00:00Z", "2026-07-22T12:00:00Z"),
            ("?start=2026-07-01T00:00:00Z", "2026-07-01T00:00:00Z", "2026-07-08T00:00:00Z"),
            ("?end=2026-07-08T00:00:00Z", "2026-07-01T00:00:00Z", "2026-07-08T00:00:00Z"),
        ],
    )
    def test_span_is_a_week_by_default(self, api, prices, query, start, end):
        answer = api.get(f"{prices}{query}").json()

        assert (answer["start"], answer["end"]) == (start, end)

    @pytest.mark.parametrize(
        ("query", "field", "code"),
        [
            ("start=today", "start", "invalid_format"),
            ("start=2026-07-15T12:00:00Z&end=2026-07-15T12:00:00Z", "end", "out_of_range"),
            ("start=2026-07-15T12:00:00Z&end=2027-07-16T12:00:01Z", "end", "out_of_range"),
        ],
    )
    def test_bad_span_names_the_parameter(self, api, prices, query, field, code):
        assert refusal(api.get(f"{prices}?{query}"))[:2] == (field, code)

    def test_series_is_stored_by_quarter_hour_and_is_in_force_with_its_tariff(
        self, api, tariffs, prices
    ):
        body = {
            "start": "2026-07-15T00:00:00Z",
            "intervalMinutes": 60,
            "pricesPerKwh": [0.1, -0.05, None],
        }

        assert api.put(prices, body).json() == {"stored": 8, "removed": 0}
        span = f"{prices}?start=2026-07-15T00:00:00Z&end=2026-07-15T03:00:00Z"
        assert [row["pricePerKwh"] for row in api.get(span).json()["results"]] == [None]
        api.post(tariffs, {"kind": "series"})
        assert [row["pricePerKwh"] for row in api.get(span).json()["results"]] == [
            *(0.1, -0.05, None)
        ]

    def test_prices_replace_those_of_the_same_time_and_no_others(self, api, berlin, prices):
        hour = {"start": "2026-07-15T00:00:00Z", "intervalMinutes": 60, "pricesPerKwh": [0.1]}
        quarters = {
            "start": "2026-07-15T00:15:00+00:00",
            "intervalMinutes": 15,
            "pricesPerKwh": [0.2, None],
        }
        api.put(prices, hour)

        assert api.put(prices, quarters).json() == {"stored": 1, "removed": 1}
        assert api.put(prices, quarters).json() == {"stored": 1, "removed": 0}
        kept = SeriesPrice.objects.order_by("starts_at").values_list("starts_at", "price_per_kwh")
        assert [(f"{at:%H:%M}", float(price)) for at, price in kept] == [
            ("00:00", 0.1),
            ("00:15", 0.2),
            ("00:45", 0.1),
        ]

    def test_a_leap_year_of_quarter_hours_is_taken_at_once(self, api, prices, statements_sent):
        values = [round(number % 96 / 1000, 4) for number in range(96 * 366)]
        body = {"start": "2024-01-01T00:00:00Z", "intervalMinutes": 15, "pricesPerKwh": values}

        with statements_sent() as sent:
            assert api.put(prices, body).json() == {"stored": 35_136, "removed": 0}

        assert sent[0] < 12
        first = SeriesPrice.objects.order_by("starts_at").last()
        assert first.starts_at == NOON.replace(2024, 12, 31, 23, 45)

    @pytest.mark.parametrize(
        ("change", "field", "code", "message"),
        [
            (
                {"start": "2026-07-15T00:10:00Z"},
                "start",
                "out_of_range",
                "start must be at a full quarter hour",
            ),
            ({"start": "2026-07-15"}, "start", "invalid_format", None),
            (
                {"intervalMinutes": 30},
                "intervalMinutes",
                "out_of_range",
                "intervalMinutes must be 15 or 60",
            ),
            ({"intervalMinutes": "15"}, "intervalMinutes", "wrong_type", None),
            ({"intervalMinutes": []}, "intervalMinutes", "wrong_type", None),
            ({"pricesPerKwh": []}, "pricesPerKwh", "out_of_range", None),
            ({"pricesPerKwh": 1}, "pricesPerKwh", "wrong_type", None),
            (
                {"pricesPerKwh": [0.1, "0.2"]},
                "pricesPerKwh[1]",
                "wrong_type",
                "pricesPerKwh[1] must be a number",
            ),
            ({"pricesPerKwh": [1e6]}, "pricesPerKwh[0]", "out_of_range", None),
            (
                {"pricesPerKwh": [1] * 8785},
                "pricesPerKwh",
                "out_of_range",
                "pricesPerKwh must have at most 8,784 prices (366 days)",
            ),
            (
                {"pricesPerKwh": [1] * 35_137, "intervalMinutes": 15},
                "pricesPerKwh",
                "out_of_range",
                "pricesPerKwh must have at most 35,136 prices (366 days)",
            ),
            ({"price": 1}, None, "unknown_field", None),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_bad_prices_name_the_field_and_the_place(
        self, api, prices, change, field, code, message
    ):
        body = {"start": "2026-07-15T00:00:00Z", "intervalMinutes": 60, "pricesPerKwh": [0.1]}

        found = refusal(api.put(prices, body | change))

        assert found[:2] == (field, code)
        assert message is None or found[2] == message
        assert not SeriesPrice.objects.exists()


@pytest.mark.usefixtures("closed")
class TestReach:
    def test_key_of_a_site_reads_its_tariffs_and_changes_none(self, berlin, tariffs, prices):
        hamburg = SiteFactory(name="Hamburg")
        reader = Caller(make_key("test", [READ], site=berlin).token)
        bound = Caller(make_key("test", [MANAGE], site=berlin).token)
        manager = Caller(make_key("test", [MANAGE]).token)
        body = {"kind": "fixed", "pricePerKwh": 0.3}

        assert [reader.get(path)[0] for path in (tariffs, prices)] == [200, 200]
        assert reader.get(f"/v1/sites/{hamburg.pk}/tariffs")[0] == 404
        assert reader.post(body, tariffs)[1]["code"] == "scope_required"
        status, refused = bound.post(body, tariffs)
        assert (status, refused["message"]) == (403, "Changing sites needs a key for all devices")
        assert bound.delete(f"{tariffs}/1")[0] == 403
        assert manager.post(body, tariffs)[0] == 201


def test_prices_of_a_year_are_answered(api, berlin, tariffs, prices):
    api.post(tariffs, {"kind": "time_of_use", "pricePerKwh": 0.3, "rules": [NIGHT]})

    answer = api.get(f"{prices}?start=2025-07-15T00:00:00Z&end=2026-07-15T00:00:00Z").json()

    # A night begins and ends on 261 workdays; it begins before the span, and ends in it.
    assert len(answer["results"]) == 2 * 261 + 1
