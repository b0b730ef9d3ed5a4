"""Why a health is unknown, in lists and on pages."""

import pytest

from analytics.formulas import Reason
from energy_engine.console.templatetags.device_page import reason as reason_on_page
from energy_engine.console.words.badges import health_badge


@pytest.mark.parametrize("reason", list(Reason))
def test_each_reason_has_words_of_its_own(reason):
    others = set(Reason) - {reason}

    assert reason_on_page(reason) not in {reason_on_page(other) for other in others}
    badge = health_badge("unknown", reason)
    assert "no link" not in badge
    assert badge not in {health_badge("unknown", other) for other in others}


def test_health_without_a_reason_is_not_compared():
    assert "no link in 24 h" in health_badge("unknown")
