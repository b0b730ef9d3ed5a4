"""The files and commands of docs/importing.md do what it shows."""

import re
import shlex
from io import StringIO

import pytest
from django.core.management import call_command

from energy_engine.environment import ROOT

PAGE = (ROOT / "docs" / "importing.md").read_text()
SAMPLES = dict(re.findall(r"<!-- sample: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))
RUNS = re.findall(
    r"<!-- run -->\n```console\n\$ manage\.py import_readings (.*?)\n(.*?)```", PAGE, re.DOTALL
)


@pytest.mark.django_db
@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("command", "expected"), RUNS)
def test_command_prints_what_the_page_shows(tmp_path, monkeypatch, command, expected):
    monkeypatch.chdir(tmp_path)
    for name, content in SAMPLES.items():
        (tmp_path / name).write_text(content)
    printed = StringIO()

    call_command("import_readings", *shlex.split(command), stdout=printed)

    assert printed.getvalue() == expected


def test_page_shows_runs_of_its_samples():
    assert len(RUNS) >= 5
    used = " ".join(command for command, _ in RUNS)
    assert all(name in used for name in SAMPLES)
