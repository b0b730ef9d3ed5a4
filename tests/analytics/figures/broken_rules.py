"""The reference with one of its rules broken: whoever judges by it must find a difference."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Final

from tests.analytics.figures import reference

# What is wrong with it, and the text that makes it so. Of single registers:
OF_REGISTERS: Final[Mapping[str, tuple[str, str]]] = {
    "a leap is counted": ("if w is not None and b <= w < v and w - b < v - w:", "if False:"),
    "a leap is never suspect": ("is_suspect=not is_plausible(v - b)", "is_suspect=False"),
    "a leap is always suspect": ("is_suspect=not is_plausible(v - b)", "is_suspect=True"),
    "a leap may be nearer to where it leapt": ("and w - b < v - w", ""),
    "a leap may be back below where it began": ("b <= w < v", "w < v"),
    "every rise is plausible": ("if v >= b and is_plausible(v - b):", "if v >= b:"),
    "a leap never stays": ("goes_on=w is not None and w >= v", "goes_on=False"),
    "a leap always stays": ("goes_on=w is not None and w >= v", "goes_on=True"),
    "a session is a counter": ('if device.register == "session_counter":', "if False:"),
    "no roll-over": ("if device.rolls_over_at_kwh is not None:", "if False:"),
    "every roll-over is plausible": ("over >= 0 and is_plausible(over)", "over >= 0"),
    "no dip": ("if w is not None and w >= b:", "if False:"),
    "no reset": ("if v <= b / 10:", "if False:"),
    "every fall is a reset": ("if v <= b / 10:", "if True:"),
    "a fresh start is always plausible": ("if is_plausible(v):", "if True:"),
    "a fall has energy": ("return Verdict(8, 0.0)", "return Verdict(8, v)"),
    "since the last reading": ("if v > b or verdict.kwh:", "if True:"),
    "since the first reading": ("if v > b or verdict.kwh:", "if False:"),
    "no minute more": ("(length + MINUTE)", "length"),
    "no tenth more": ("return 1.1 * power_kw", "return power_kw"),
    "no power by default": ("power_kw = settings.DEFAULT_MAX_POWER_KW", "power_kw = 1e9"),
    "the next reading, of whatever value": ("if later != v), None)", "if True), None)"),
    "an interval is always plausible": (
        "if power_kw is not None and begins < at and",
        "if False and",
    ),
    "an interval of unknown length is judged": ("and begins < at and", "and"),
    "no scale": ("(at, value * device.scale)", "(at, value)"),
    "no scale of an interval": ("kwh = value * device.scale", "kwh = value"),
}
# And of what a window, a link or a share has of the curve:
OF_CURVES: Final[Mapping[str, tuple[str, str]]] = {
    "at the instant of the reading": ("if self.begins == self.ends:", "if True:"),
    "an ignored reading ends an interval": (
        "            if verdict.goes_on:\n",
        "            b_at = at\n            if verdict.goes_on:\n",
    ),
    "counting goes on from the first reading of a value": (
        "b_at, b = at, v",
        "b_at, b = (at, v) if v != b else (b_at, b)",
    ),
    "no 75 minutes": ("at - before <= 75 * MINUTE", "at - before <= 15 * MINUTE"),
    "no 15 minutes": ("max(3 * cadence, 15 * MINUTE)", "3 * cadence"),
    "no three cadences": ("max(3 * cadence, 15 * MINUTE)", "15 * MINUTE"),
    "no cadence back": ("    return at - cadence\n", "    return at\n"),
    "the learned cadence first": (
        "coalesce(interval_seconds, cadence_seconds)",
        "coalesce(cadence_seconds, interval_seconds)",
    ),
    "shared by the DC of the last half of a step": (
        "vehicles[other].kwh(step.begins, step.ends)",
        "vehicles[other].kwh(step.begins + (step.ends - step.begins) / 2, step.ends)",
    ),
    "shared equally": ("if sum(taken.values()) > 0:", "if False:"),
    "not shared where none took any": ("return 1 / len(beside)", "return 0.0"),
    "shared with everybody who was ever linked": (
        "if other_begins <= piece_start and (other_ends is None or piece_end <= other_ends)",
        "",
    ),
    "the fleet's AC equally": ("share = dc_kwh / sum(", "share = 0.5 + 0 * sum("),
    "a linked meter belongs to the fleet": ("items() if i not in linked]", "items()]"),
    "no archive": ("FROM ingestion_{kind}register", "FROM ingestion_{kind}register WHERE false"),
    "the first delivery counts": (
        "ORDER BY measured_at, received_at, id",
        "ORDER BY measured_at, received_at DESC, id DESC",
    ),
    "everything is covered": ("exactly_kwh, kwh * other.covered(*span))", "kwh)"),
    "nothing is covered": ("exactly_kwh, kwh * other.covered(*span))", "0.0)"),
}
RULES: Final = {**OF_REGISTERS, **OF_CURVES}


def broken(name: str) -> ModuleType:
    """Return the reference without the rule of that name."""
    sound, wrong = RULES[name]
    source = Path(reference.__file__).read_text()
    assert sound in source, sound
    source = source.replace(sound, wrong)
    module = ModuleType(f"{reference.__name__} ({name})")
    exec(compile(source, module.__name__, "exec"), module.__dict__)  # noqa: S102 # our own source
    return module
