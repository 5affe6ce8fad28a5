"""OpenTelemetry's configuration file names callspan's exporter: the file of the page, with a receiver and a program."""

from __future__ import annotations

import json
import re

import pytest
from tests.support.launching import APPS, Stage
from tests.support.pages import ROOT

PAGE = ROOT / "docs" / "opentelemetry.md"
SCRIPT = str(APPS / "calling.py")


@pytest.fixture
def configured(stage: Stage) -> Stage:
    """The stage with the page's file; its stores are in the stage's directory, no variable names one."""
    (configuration,) = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (stage.place / "otel.yaml").write_text(configuration.replace("http://localhost:4318", stage.receiver.url))
    stage.store = f"sqlite:///{stage.place / 'callspan.db'}"
    del stage.environment["CALLSPAN_STORES"]
    stage.environment["OTEL_CONFIG_FILE"] = "otel.yaml"
    return stage


def test_file_sends_spans_and_writes_records(configured: Stage) -> None:
    done = configured.run("opentelemetry-instrument", "python", SCRIPT, "2")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (configured.place / "calls.jsonl").read_text().splitlines()]
    ids = {call.call_id for call in configured.calls()}
    assert len(ids) == 4
    assert {record["call_id"] for record in records if record["kind"] == "call"} == ids
    assert {span.span_id for span in configured.spans} == {call.span_id for call in configured.calls()}
