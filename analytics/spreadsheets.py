"""CSV that somebody opens with a spreadsheet, which runs what looks like a formula."""

from typing import Final

_BEGINS_A_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def cell(value: object) -> object:
    """Return `value`, as a text where it is one that a spreadsheet would take for a formula."""
    is_formula = isinstance(value, str) and value.startswith(_BEGINS_A_FORMULA)
    return f"'{value}" if is_formula else value
