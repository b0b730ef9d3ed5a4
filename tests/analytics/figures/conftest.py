"""The field: devices, and figures both from history and from hourly sums."""

import pytest

from tests.analytics.figures.field import Field


@pytest.fixture(params=["history", "hourly sums"])
def field(request, api, clock) -> Field:
    """Devices without history; their figures come from history, or from hourly sums too."""
    return Field(api, clock, is_summed_up=request.param == "hourly sums")
