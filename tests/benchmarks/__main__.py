"""`make bench`: how fast the engine is, against ceilings measured in the same run.

Starts an engine of its own, fsync and all. Prints one table, keeps it in `.bench/`, and shows how
each figure compares with the run before. Machines differ and are noisy: look at the ratios. With
arguments, measures only what they name: `python -m tests.benchmarks overload storage`.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.analytics import answers, fleet
from tests.benchmarks.figures import Figure
from tests.benchmarks.history import long_history, running_engine, storage
from tests.benchmarks.memory import big_bodies, streams
from tests.benchmarks.overload import overload
from tests.benchmarks.throughput import access, batches, live_state, singles

RESULTS = Path(".bench/last.json")
MEASURES = (
    *(batches, singles, access, streams, live_state, big_bodies, overload, storage, long_history),
    *(answers, fleet),
)


def main(names: list[str]) -> None:
    before = _before()
    figures: list[Figure] = []
    with running_engine() as engine:
        for measure in MEASURES:
            if names and measure.__name__ not in names:
                continue
            for figure in measure(engine):
                figures.append(figure)
                _print(figure, before.get(figure.name))
    if names:
        return
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))


def _before() -> dict[str, float]:
    if not RESULTS.exists():
        return {}
    return {figure["name"]: figure["value"] for figure in json.loads(RESULTS.read_text())}


def _print(figure: Figure, before: float | None) -> None:
    ratio = f"{figure.ratio:.2f} of {_number(figure.ceiling)}" if figure.ratio else ""
    change = f"{figure.value / before - 1:+.0%}" if before else ""
    sys.stdout.write(
        f"{figure.name:<42} {_number(figure.value):>11} {figure.unit:<11} "
        f"{ratio:<18} {change:>6}  {figure.note}\n"
    )
    sys.stdout.flush()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main(sys.argv[1:])
