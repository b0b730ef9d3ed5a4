"""Efficiency, health and shares, by numbers that a reader checks by hand."""

import pytest

from analytics.formulas import efficiency_percent, health, share


@pytest.mark.parametrize(
    ("dc", "ac", "percent"),
    [
        (95.0, 109.0, 87.16),
        (21.5, 25.5, 84.31),
        (1.0, 3.0, 33.33),
        (0.0, 10.0, 0.0),
        (11.0, 10.0, 110.0),
        (1.0, 0.0, None),
        (0.0, 0.0, None),
        (1e9, 1e-320, None),
    ],
)
def test_efficiency_is_dc_of_ac_in_percent(dc, ac, percent):
    assert efficiency_percent(dc, ac) == percent


@pytest.mark.parametrize(
    ("percent", "verdict"),
    [
        (None, "unknown"),
        (0.0, "critical"),
        (69.99, "critical"),
        (70.0, "degraded"),
        (84.99, "degraded"),
        (85.0, "healthy"),
        (100.0, "healthy"),
        (100.01, "suspect"),
    ],
)
def test_health_follows_the_efficiency(percent, verdict):
    assert health(percent) == verdict


def test_limits_of_health_are_settings(settings):
    settings.HEALTHY_EFFICIENCY_PERCENT = 80.0
    settings.DEGRADED_EFFICIENCY_PERCENT = 60.0

    assert (health(80.0), health(60.0), health(59.0)) == ("healthy", "degraded", "critical")


def test_share_goes_by_dc_and_equally_where_none_took_any():
    assert share(30.0, 90.0, 2) == pytest.approx(1 / 3)
    assert share(0.0, 0.0, 4) == 0.25
