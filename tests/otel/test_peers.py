"""callspan with the real packages of other instrumentations of the same SDKs."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import pytest
from tests.support.launching import APPS, Stage, python_of
from tests.support.receiver import OtlpReceiver

from callspan.testing import ScriptedProvider

pytestmark = [pytest.mark.xdist_group("peers")]

ONE_SPAN = {
    "opentelemetry.instrumentation.genai.openai:OpenAIInstrumentor": "opentelemetry-instrumentation-genai-openai",
    "opentelemetry.instrumentation.genai.anthropic:AnthropicInstrumentor": (
        "opentelemetry-instrumentation-genai-anthropic"
    ),
    "opentelemetry.instrumentation.openai:OpenAIInstrumentor": "opentelemetry-instrumentation-openai",
    "openinference.instrumentation.openai:OpenAIInstrumentor": "openinference-instrumentation-openai",
    "openinference.instrumentation.anthropic:AnthropicInstrumentor": "openinference-instrumentation-anthropic",
}
"""Those whose span is current while the SDK works."""
TWO_SPANS = {"opentelemetry.instrumentation.anthropic:AnthropicInstrumentor": "opentelemetry-instrumentation-anthropic"}
"""Those whose span nobody can see from within the SDK."""
SUPPRESSING = {"logfire:instrument_openai": "logfire", "logfire:instrument_anthropic": "logfire"}
"""Those that suppress further instrumentation during a call."""
EVERY = ONE_SPAN | TWO_SPANS | SUPPRESSING
ORDERS = ["theirs-first", "ours-first"]
Scenes: TypeAlias = dict[tuple[str, str], Any]
"""What came of each peer in each order."""
in_each_order = pytest.mark.parametrize("order", ORDERS)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    """All at once: what takes long is to import the SDKs and the peers, which one process does for all."""
    python = python_of("peers")
    combinations = [(named, order) for named in EVERY for order in ORDERS]
    words = [word for pair in combinations for word in pair]
    with ScriptedProvider() as provider, OtlpReceiver() as receiver:
        stage = Stage(tmp_path_factory.mktemp("peers"), provider, receiver)
        done = stage.run(python, str(APPS / "peer.py"), *words, timeout_s=300.0, CALLSPAN_STORES="")
    assert done.returncode == 0, done.stderr
    return dict(zip(combinations, json.loads(done.stdout), strict=True))


def beside(scenes: Scenes, named: str, order: str) -> Any:
    result = scenes[named, order]
    assert "failed" not in result, result["failed"]
    return result


@in_each_order
@pytest.mark.parametrize("named", ONE_SPAN)
def test_there_is_one_span_per_call_with_the_attributes_of_both(scenes: Scenes, named: str, order: str) -> None:
    result = beside(scenes, named, order)
    spans = [span for span in result["spans"] if span["name"] != "app"]
    calls = result["calls"]
    assert [span["span_id"] for span in spans] == [call["span_id"] for call in calls]
    assert len(spans) == (1 if "anthropic" in named else 2)
    root = next(span for span in result["spans"] if span["name"] == "app")
    for span in spans:
        assert span["scope"] != "callspan"
        assert span["attributes"]["callspan.outcome"] == "success"
        assert span["attributes"]["llm.vendor"]
        assert span["parent_id"] == root["span_id"]
    assert {call["parent_id"] for call in calls} == {root["span_id"]}


@in_each_order
@pytest.mark.parametrize("named", TWO_SPANS)
def test_a_span_that_is_not_current_cannot_be_joined(scenes: Scenes, named: str, order: str) -> None:
    result = beside(scenes, named, order)
    assert len([span for span in result["spans"] if span["name"] != "app"]) == 2 * len(result["calls"])


@in_each_order
@pytest.mark.parametrize("named", SUPPRESSING)
def test_each_call_has_a_record_where_the_other_suppresses_our_span(scenes: Scenes, named: str, order: str) -> None:
    result = beside(scenes, named, order)
    assert result["calls"] == [{"span_id": None, "parent_id": None}] * (1 if "anthropic" in named else 2)
    scopes = {span["scope"] for span in result["spans"] if span["name"] != "app"}
    assert scopes == {f"logfire.{named.rpartition('_')[2]}"}


@in_each_order
@pytest.mark.parametrize("named", EVERY)
def test_the_other_instrumentation_is_named_in_one_warning(scenes: Scenes, named: str, order: str) -> None:
    distribution = EVERY[named]
    result = beside(scenes, named, order)
    warnings = [message for message in result["heard"] if distribution in message]
    assert len(warnings) == 1
    assert "instruments the same SDKs as callspan" in warnings[0]
    (check,) = result["doctor"]
    assert (check["name"], check["state"]) == (distribution, "warning")
    assert f"{distribution} {check['detail']}. {check['advice']}" == f"{warnings[0]}."
