"""Records of the kinds of faults: complete, and true of the thresholds that they name."""

import pytest

from analytics.alerting.kinds import KINDS
from analytics.models import FaultKind, FaultThresholds


def test_every_kind_has_a_record_in_the_order_of_the_table():
    assert list(KINDS) == list(FaultKind)


def test_every_threshold_belongs_to_one_kind():
    fields = [field.name for field in FaultThresholds._meta.fields]
    named = [name for record in KINDS.values() for name in record.thresholds]

    assert sorted(named) == sorted(set(fields) - {"id", "site"})


@pytest.mark.parametrize("record", KINDS.values(), ids=KINDS)
def test_texts_are_filled_with_thresholds_of_the_kind(record):
    texts = (record.rule, record.clause, record.sentence, record.opens, record.gone)

    filled = [record.with_thresholds(text, FaultThresholds()) for text in texts]

    assert not any(sign in text for text in filled for sign in "{}")
    assert record.ordered_by in record.thresholds
    # The thresholds page describes each kind once.
    assert bool(record.clause) != bool(record.sentence)


@pytest.mark.parametrize("record", KINDS.values(), ids=KINDS)
def test_default_thresholds_do_not_open_what_they_close(record):
    if record.opens_on_side:
        opens, closes = (getattr(FaultThresholds(), name) for name in record.thresholds)
        assert opens < closes if record.opens_on_side == "below" else opens > closes
