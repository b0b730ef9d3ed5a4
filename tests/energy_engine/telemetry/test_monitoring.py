"""Dashboards and alerts ask for what the engine shows, and each alert says what to do."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from analytics.figures import snapshot
from analytics.rollups import cadence
from energy_engine.environment import ROOT
from fleet.stores import replica
from ingestion.writer import record
from tests import system_packages
from tests.conftest import NOON, vehicle_reading

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
RULES = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS = [
    pytest.param(panel, id=f"{path.stem}: {panel['title']}")
    for path in DASHBOARDS
    for panel in json.loads(path.read_text())["panels"]
]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in PANELS for target in panel.values[0]["targets"]
]
_metric = re.compile(r"\b(engine_\w+|up)\b(?:\{([^}]*)\})?")
_grouped_by = re.compile(r"\bby \(([^)]+)\)")
_label = re.compile(r"(\w+)\s*[=!]")


def promtool(*arguments: object) -> None:
    """Run Prometheus' own checks."""
    system_packages.need("promtool")
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def shown(api, settings, monkeypatch, log_slot) -> dict[str, set[str]]:
    """The names of what a real answer of /metrics shows, each with its labels."""
    monkeypatch.setattr(replica, "is_configured", lambda: True)
    monkeypatch.setattr(replica.watch, "_begin", lambda: None)
    record([vehicle_reading("V1")], NOON)
    cadence.learn_cadences()
    snapshot.refresh()
    api.post("/v1/ingest", [{"vehicleId": "V1", "kwhDeliveredDc": 1}, {}])
    api.get("/v1/analytics/performance/V1")
    settings.API_AUTH, settings.LIMIT_REQUESTS_PER_ADDRESS = "required", 1
    for _ in range(2):
        api._client.get("/v1/analytics/fleet", REMOTE_ADDR="192.0.2.1")
    settings.API_AUTH = "open"
    families = text_string_to_metric_families(api.get("/metrics").content.decode())
    labels: dict[str, set[str]] = {"up": {"job", "instance"}}
    for sample in (sample for family in families for sample in family.samples):
        labels.setdefault(sample.name, set()).update(sample.labels)
    # What has a line for each job is there once that has run.
    for name in ("engine_job_seconds", "engine_job_success_age_seconds"):
        labels.setdefault(name, {"task"})
    return labels


def test_every_metric_and_label_that_is_asked_for_exists(shown):
    for expression in EXPRESSIONS:
        asked = _metric.findall(expression)
        assert asked, expression
        known = set().union(*(shown[name] for name, _ in asked))
        for name, matchers in asked:
            assert set(_label.findall(matchers)) <= shown[name], expression
        for grouped in _grouped_by.findall(expression):
            assert set(grouped.split(", ")) <= known, expression


def test_words_of_legends_and_summaries_are_labels_of_what_they_stand_for(shown):
    said = [(rule["expr"], rule["annotations"]["summary"]) for rule in RULES]
    said += [
        (target["expr"], target["legendFormat"])
        for panel in PANELS
        for target in panel.values[0]["targets"]
    ]
    for expression, words in said:
        known = set().union(*(shown[name] for name, _ in _metric.findall(expression)))
        assert set(re.findall(r"{{(?: \$labels\.)?(\w+) ?}}", words)) <= known, words


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_says_what_it_shows_and_in_which_unit(panel):
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    named = re.findall(r"Alerts?: ([\w, ]+)\.", panel["description"])
    assert {name for names in named for name in names.split(", ")} <= {
        rule["alert"] for rule in RULES
    }


def test_dashboards_use_the_source_that_is_provisioned():
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]

    assert {panel.values[0]["datasource"]["uid"] for panel in PANELS} == {source["uid"]}


def test_prometheus_takes_its_configuration_and_the_alerts():
    promtool("check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", PROMETHEUS / "alerts.yml")


def test_prometheus_takes_every_expression_of_the_dashboards(tmp_path):
    expressions = [expression.replace("$__rate_interval", "1m") for expression in EXPRESSIONS]
    rules = [
        {"record": f"panel_{number}", "expr": expression}
        for number, expression in enumerate(expressions)
    ]
    (tmp_path / "rules.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]})
    )

    promtool("check", "rules", tmp_path / "rules.yml")


def test_alerts_fire_when_they_should_and_only_then():
    promtool("test", "rules", Path(__file__).parent / "alerts_test.yml")


def test_every_alert_is_explained_and_every_explanation_has_its_alert():
    operations = (ROOT / "docs" / "operations.md").read_text()
    alerts = operations.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    names = [rule["alert"] for rule in RULES]

    assert re.findall(r"^### (\w+)$", alerts, re.MULTILINE) == names
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_compose_runs_both_on_what_deploy_holds():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounts = [
        mount.split(":")[0]
        for name in ("prometheus", "grafana")
        for mount in services[name]["volumes"]
    ]
    folders = [mount for mount in mounts if mount.startswith("./")]

    assert {services[name]["profiles"][0] for name in ("prometheus", "grafana")} == {"monitoring"}
    assert sorted(folders) == [
        *("./deploy/grafana/dashboards", "./deploy/grafana/provisioning", "./deploy/prometheus"),
    ]
    assert all((ROOT / folder).is_dir() for folder in folders)
    for name in ("prometheus", "grafana"):
        assert re.search(r":v?\d+\.\d+\.\d+$", services[name]["image"])
