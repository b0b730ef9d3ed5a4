"""Replay the README's tour against a running engine, and compare what it answers.

`python -m tests.tour PORT DATA_DIR`: runs each command of the tour as a reader would, in bash, and
compares the JSON answers with the printed ones; of times and request ids only the form. At the end
it looks into history: three rows of what was sent three times.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg

from energy_engine.local import embedded

README = Path(__file__).resolve().parent.parent / "README.md"
_block = re.compile(r"<!-- tour -->\n```console\n(.*?)```", re.DOTALL)
_volatile = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z|[0-9a-f]{32}")


def steps() -> list[tuple[str, list[str]]]:
    """Return the commands of the tour, each with the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(_block.findall(README.read_text())).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def settled(line: str) -> Any:
    """Return a printed answer with what changes from run to run taken out."""
    return json.loads(_volatile.sub("…", line))


def replay(port: int) -> list[str]:
    """Run the tour against the engine on `port`; return a text for each answer that differs."""
    differences = []
    for command, expected in steps():
        here = command.replace("localhost:8000", f"localhost:{port}")
        ran = subprocess.run(["bash", "-c", here], capture_output=True, text=True, check=False)
        printed = ran.stdout.splitlines()
        if [settled(line) for line in printed] != [settled(line) for line in expected]:
            differences.append(f"$ {here}\n  expected {expected}\n  answered {printed}")
    return differences


def miscounted(data_dir: Path) -> list[str]:
    """Return a text for each device of the tour that has not three rows in history."""
    counts = {}
    with psycopg.connect(embedded.database_url(data_dir)) as connection:
        for kind, device_id in (("meter", "METER001"), ("vehicle", "VEH001")):
            sql = f"SELECT count(*) FROM ingestion_{kind}reading WHERE {kind}_id = %s"
            (counts[device_id],) = connection.execute(sql, [device_id]).fetchone()
    return [f"{device_id} has {count} rows" for device_id, count in counts.items() if count != 3]


if __name__ == "__main__":
    wrong = replay(int(sys.argv[1])) + miscounted(Path(sys.argv[2]).resolve())
    sys.stdout.write("\n".join([*wrong, f"{len(steps())} steps, {len(wrong)} differ"]) + "\n")
    sys.exit(bool(wrong))
