"""Settings of the environment: one source for code, `.env.example` and README."""

import re

import pytest

from energy_engine import environment
from energy_engine.environment import InvalidEnvironment, Variable

ROOT = environment.ROOT


def test_env_example_is_what_the_code_says():
    assert (ROOT / ".env.example").read_text() == environment.as_env_file()


def test_settings_table_of_the_readme_is_what_the_code_says():
    assert environment.as_markdown() in (ROOT / "README.md").read_text()


def test_every_variable_is_read_somewhere():
    sources = [
        path.read_text()
        for app in ("energy_engine", "ingestion", "analytics", "fleet")
        for path in (ROOT / app).rglob("*.py")
        if path.name != "environment.py"
    ]
    own = (ROOT / "energy_engine" / "environment.py").read_text()
    for variable in environment.VARIABLES:
        asked = (f'"{variable.name}"' in source for source in sources)
        assert any(asked) or f'read("{variable.name}")' in own, variable.name


def test_environment_is_read_in_one_place():
    for app in ("energy_engine", "ingestion", "analytics", "fleet"):
        for path in (ROOT / app).rglob("*.py"):
            if path.name != "environment.py":
                assert not re.search(r"os\.(getenv|environ(\[|\.get))", path.read_text()), path


def test_unset_and_empty_mean_the_default(monkeypatch):
    monkeypatch.delenv("PORT", raising=False)
    assert environment.read("PORT") == 8000
    monkeypatch.setenv("PORT", " ")
    assert environment.read("PORT") == 8000


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("1", True), ("on", True), ("False", False), ("0", False)]
)
def test_boolean_has_many_spellings(text, value):
    assert Variable("DEBUG", False, "").parse(text) is value


@pytest.mark.parametrize(
    ("variable", "text", "rule"),
    [
        (Variable("DEBUG", False, ""), "ture", "true or false"),
        (Variable("PORT", 8000, ""), "http", "a whole number"),
        (Variable("PORT", 8000, ""), "80.5", "a whole number"),
        (Variable("LIMIT", 1.5, ""), "high", "a number"),
        (Variable("LIMIT", 1.5, "", at_least=0), "nan", "at least 0"),
        (Variable("DAYS", 400, "", at_least=1), "0", "at least 1"),
        (Variable("SIZE", "month", "", choices=("month", "day")), "year", "one of month, day"),
    ],
)
def test_value_without_sense_names_the_variable_and_its_rule(variable, text, rule):
    with pytest.raises(InvalidEnvironment, match=f"{variable.name} must be {rule}"):
        variable.parse(text)


def test_command_is_one_that_the_reader_can_copy(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.executable", str(ROOT / ".venv" / "bin" / "python"))
    assert environment.command("check") == ".venv/bin/python manage.py check"

    # As in the container, whose Python is on the path.
    python = tmp_path / "python"
    python.touch(mode=0o755)
    monkeypatch.setattr("sys.executable", str(python))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.command("check") == "python manage.py check"

    monkeypatch.setenv("PATH", "/nowhere")
    assert environment.command("check") == f"{python} manage.py check"


def test_hints_ask_how_a_command_is_run_here():
    for app in ("energy_engine", "ingestion", "analytics", "fleet"):
        for path in [*(ROOT / app).rglob("*.py"), *(ROOT / app).rglob("*.html")]:
            if path.name != "environment.py":
                assert "python manage.py" not in path.read_text(), path
