"""What a benchmark returns, and how long each of them measures."""

import os
from dataclasses import dataclass

SECONDS = int(os.environ.get("BENCH_SECONDS", "12"))
OVERLOAD_SECONDS = int(os.environ.get("BENCH_OVERLOAD_SECONDS", "20"))
STREAM_READINGS = int(os.environ.get("BENCH_STREAM_READINGS", "1000000"))
HISTORY_DAYS = int(os.environ.get("BENCH_HISTORY_DAYS", "5"))
HISTORY_READINGS = int(os.environ.get("BENCH_HISTORY_READINGS", "2000000"))
# A figure and its ceiling take turns, so that both see the same hours of a noisy machine.
ROUNDS = 4
# A difference of a hundredth takes many short turns to show.
ACCESS_ROUNDS = int(os.environ.get("BENCH_ACCESS_ROUNDS", "20"))
ACCESS_SECONDS = 2


@dataclass(frozen=True)
class Figure:
    """One line of the table; `ceiling` is what the machine did without what is measured."""

    name: str
    value: float
    unit: str
    ceiling: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.ceiling if self.ceiling else None
