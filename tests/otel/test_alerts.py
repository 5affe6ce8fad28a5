"""The alert rules and dashboards in `examples`: what they ask for is measured, and the documents show these rules."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from tests.support.processes import ROOT
from tests.support.waiting import HANG_S

RULES: Final = ROOT / "examples/prometheus/callspan.rules.yaml"
TESTS: Final = ROOT / "examples/prometheus/callspan.test.yaml"
DASHBOARDS: Final = sorted((ROOT / "examples/grafana").glob("*.json"))
PROMTOOL: Final = ROOT / ".cache/prometheus/usr/bin/promtool"
_UNITS: Final = {"s": "_seconds"}
_PARTS: Final = {
    "histogram": ("_sum", "_count", "_bucket"), "counter": ("_total",), "up-down counter": ("",), "gauge": ("",),
}  # fmt: skip
_INSTRUMENT: Final = re.compile(r"^- ((?:`[\w.]+`(?:, )?)+) \(([\w -]+), ([^)]+)\): (.*)$", re.MULTILINE)
_QUOTED: Final = re.compile(r"`([\w.]+)`")
_GROUPS: Final = {
    "call": ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
    "server": ("gen_ai_response_model", "server_address", "server_port"),
}
"""What the list abbreviates."""
_METRIC: Final = re.compile(r"\b((?:callspan|gen_ai)_\w+)(?=[{\[)\s])")
_LABEL: Final = re.compile(r"\b((?:callspan|gen_ai|error)_\w+)")


@cache
def labels_by_metric() -> dict[str, set[str]]:
    """The labels of each metric in the generated list, named as the Collector's exporter for Prometheus does."""
    section = (ROOT / "docs/attributes.md").read_text().split("### Metrics")[1].split("Attributes that only")[0]
    named: dict[str, set[str]] = {}
    for names, kind, unit, about in _INSTRUMENT.findall(section):
        labels = {name.replace(".", "_") for name in _QUOTED.findall(about)}
        labels |= {name for word, group in _GROUPS.items() if f"*{word}*" in about for name in group}
        for name in _QUOTED.findall(names):
            for part in _PARTS[kind]:
                named[name.replace(".", "_") + _UNITS.get(unit, "") + part] = labels
    return named


@cache
def rules() -> dict[str, Any]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def targets() -> Iterator[tuple[str, str]]:
    """The expressions of the dashboards, by dashboard and panel."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}: {target['refId']}", target["expr"]


EXPRESSIONS: Final = dict(chain(((name, rule["expr"]) for name, rule in rules().items()), targets()))


def _words(expression: str) -> str:
    return " ".join(expression.split())


def test_documents_show_the_rules() -> None:
    blocks = re.findall(r"```promql\n(.*?)```", (ROOT / "docs/alerts.md").read_text(), re.DOTALL)
    assert [_words(block) for block in blocks] == [_words(rule["expr"]) for rule in rules().values()]


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expression_asks_for_what_is_measured(name: str) -> None:
    expression = EXPRESSIONS[name].replace("[$__rate_interval]", "[5m]")
    metrics = set(_METRIC.findall(expression)) & labels_by_metric().keys()
    assert metrics, "no metric of callspan"
    known = set[str]().union(*(labels_by_metric()[metric] for metric in metrics))
    assert set(_LABEL.findall(expression)) - metrics <= known


def test_each_rule_is_tested_firing_and_silent() -> None:
    tested = [
        (test["alertname"], bool(test["exp_alerts"]))
        for case in yaml.safe_load(TESTS.read_text())["tests"]
        for test in case["alert_rule_test"]
    ]
    assert tested == [(name, fires) for name in rules() for fires in (True, False)]


def promtool() -> Path:
    if not PROMTOOL.exists():
        pytest.skip(
            "no promtool: `make .cache/prometheus/usr/bin/promtool` unpacks Debian's package, where apt-get has it"
        )
    return PROMTOOL


def test_rules_fire_and_are_silent() -> None:
    done = subprocess.run(
        [promtool(), "test", "rules", TESTS.name],
        cwd=TESTS.parent, capture_output=True, text=True, check=False, timeout=HANG_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_has_the_shape_that_grafana_states(path: Path) -> None:
    """Read by the classes that Grafana generates of its schema, and written again, it has all that it had."""
    dashboards = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
    stated = json.loads(path.read_text())
    written = json.loads(encoder.JSONEncoder(sort_keys=True).encode(dashboards.Dashboard.from_json(stated)))
    lost = [name for name in stated if name not in written]
    assert lost == []
    for panel, again in zip(stated["panels"], written["panels"], strict=True):
        for name in ("id", "type", "title", "gridPos", "datasource"):
            assert again[name] == panel[name], name
    ids = [panel["id"] for panel in stated["panels"]]
    assert len(set(ids)) == len(ids)
