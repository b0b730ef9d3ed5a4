"""What a spreadsheet would run is a text in CSV."""

import pytest

from fleet.http import csv_answers

FULL_WIDTH = ["\uff1d", "\uff0b", "\uff0d", "\uff20"]
SMALL = ["\ufe66", "\ufe62", "\ufe63", "\ufe6b"]


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", *FULL_WIDTH, *SMALL], ids=ascii)
@pytest.mark.parametrize(
    "unseen",
    [
        "",
        " ",
        "\t",
        "\r\n",
        "\x00",
        "\u00a0",
        "\u2007",
        "\u202f",
        "\u3000",
        "\ufeff",
        "\u200b",
        "\u2060",
        "\u202e",
        "\u2028",
        " \ufeff\u00a0\t",
    ],
    ids=ascii,
)
def test_sign_of_a_formula_of_any_width_behind_what_is_not_seen_is_text(unseen, sign):
    assert csv_answers.cell(f"{unseen}{sign}1+1") == f"'{unseen}{sign}1+1"


@pytest.mark.parametrize("text", ["\tDepot", "\rDepot", "\nDepot"])
def test_text_that_begins_with_a_control_character_is_marked(text):
    assert csv_answers.cell(text) == f"'{text}"


@pytest.mark.parametrize(
    "value",
    ["", " ", "\ufeff", "Depot", " Depot", "A=B", "V-1", "'=1+1", "Ünna", "1+1", -5.3, -1, None],
    ids=ascii,
)
def test_everything_else_stays_as_it_is(value):
    assert csv_answers.cell(value) == value
    assert type(csv_answers.cell(value)) is type(value)
