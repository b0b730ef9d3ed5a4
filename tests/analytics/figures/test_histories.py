"""The histories that the truth test draws put every rule of registers to the test."""

from collections import Counter, defaultdict

from django.conf import settings as django_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.analytics.figures.histories import (
    DEFAULT_MAX_POWER_KW,
    METERS,
    RULES,
    VEHICLES,
    Delivered,
    deliveries,
    device_settings,
)
from tests.analytics.figures.reference import Curve, Device, Reading
from tests.conftest import NOON

EXAMPLES = 300


def test_each_rule_decides_in_one_of_fifty_histories_at_least(monkeypatch):
    monkeypatch.setattr(django_settings, "DEFAULT_MAX_POWER_KW", DEFAULT_MAX_POWER_KW)
    hits: Counter[str] = Counter()

    _draw_histories(hits)

    assert hits.keys() == RULES
    assert min(hits.values()) >= EXAMPLES / 50, hits


def _draw_histories(hits: Counter[str]) -> None:
    """Count in how many histories each rule decided something."""

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        chosen=st.lists(device_settings, min_size=6, max_size=6),
        delivered=st.lists(deliveries, min_size=6, max_size=6),
    )
    def draw(chosen: list[dict[str, object]], delivered: list[list[Delivered]]) -> None:
        readings: dict[str, dict] = defaultdict(dict)
        for device, at, value, temp in (one for burst in delivered for one in burst):
            readings[device][at] = Reading(NOON + at, value, temp)
        decided = set()
        for device, of_device in zip(VEHICLES + METERS, chosen, strict=True):
            in_order = [reading for _, reading in sorted(readings[device].items())]
            decided |= Curve(
                Device(
                    in_order,
                    of_device["energy_register"],
                    of_device["scale"],
                    of_device["max_power_kw"],
                    of_device["rolls_over_at_kwh"],
                    of_device["interval_seconds"],
                )
            ).rules
        hits.update(decided)

    draw()
