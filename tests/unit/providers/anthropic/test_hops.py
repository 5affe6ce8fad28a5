"""Each kind of `usage.iterations`: whether the top-level counters have it, and the call's totals with it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from callspan.providers.anthropic.messages import usage
from callspan.records import Usage


def entry(kind: str, tokens: int, output: int, model: str | None = None, **more: int) -> dict[str, Any]:
    named = {} if model is None else {"model": model}
    return {"type": kind, "input_tokens": tokens, "output_tokens": output, **named, **more}


def read(tokens: int, output: int, *iterations: dict[str, Any], **more: int) -> Usage:
    found = usage({"input_tokens": tokens, "output_tokens": output, **more, "iterations": list(iterations)})
    assert found is not None
    return found


def totals(found: Usage) -> tuple[int | None, int | None, int | None]:
    return found.input_tokens, found.output_tokens, found.total_tokens


def test_a_compaction_is_beside_the_top_level() -> None:
    """`BetaUsage.iterations`: "tokens are not included in the top-level `usage` fields"."""
    found = read(5, 13, entry("compaction", 100, 30, cache_read_input_tokens=20), entry("message", 5, 13))
    assert totals(found) == (125, 43, 168)
    assert found.cache_read_tokens == 20
    assert [(iteration.kind, iteration.beside) for iteration in found.iterations] == [
        ("compaction", True),
        ("message", False),
    ]


def test_the_types_of_the_sdk_say_so_of_compactions() -> None:
    module = pytest.importorskip("anthropic.types.beta.beta_usage")
    source = " ".join(inspect.getsource(module).split())
    if "compaction" not in source:
        pytest.skip("an older SDK")
    assert "tokens are not included in the top-level `usage` fields" in source


def test_an_advisor_is_beside_the_top_level_and_another_model() -> None:
    """`BetaAdvisorMessageIterationUsage`: "an advisor sub-inference", with a model of its own."""
    found = read(50, 20, entry("message", 50, 20), entry("advisor_message", 70, 9, "claude-opus-4-8"))
    assert totals(found) == (120, 29, 149)
    assert [(iteration.kind, iteration.model, iteration.beside) for iteration in found.iterations][1] == (
        "advisor_message",
        "claude-opus-4-8",
        True,
    )


def test_the_turns_of_a_tool_loop_are_in_the_top_level() -> None:
    """`BetaMessageDeltaUsage`: "the cumulative number of input tokens"; `message`: "the turns of a ... loop"."""
    found = read(30, 7, entry("message", 10, 3), entry("message", 20, 4))
    assert totals(found) == (30, 7, 37)
    assert found.iterations == []


def test_a_declined_hop_is_beside_a_top_level_of_the_serving_hop() -> None:
    found = read(120, 20, entry("message", 100, 10, "a"), entry("fallback_message", 120, 20, "b"))
    assert totals(found) == (220, 30, 250)
    assert [iteration.beside for iteration in found.iterations] == [True, False]


def test_a_declined_hop_is_in_a_top_level_of_all_hops() -> None:
    found = read(220, 30, entry("message", 100, 10, "a"), entry("fallback_message", 120, 20, "b"))
    assert totals(found) == (220, 30, 250)
    assert [iteration.beside for iteration in found.iterations] == [False, False]


def test_earlier_turns_of_the_serving_hop_are_in_its_top_level() -> None:
    """Of the serving iteration "earlier tool-loop iterations produce `message` entries"."""
    iterations = entry("message", 100, 10, "a"), entry("message", 40, 5, "b"), entry("fallback_message", 80, 15, "b")
    found = read(120, 20, *iterations)
    assert totals(found) == (220, 30, 250)
    assert [iteration.beside for iteration in found.iterations] == [True, False, False]


def test_the_middleware_names_only_the_last_turn_of_the_serving_hop() -> None:
    found = read(120, 20, entry("message", 100, 10, "a"), entry("fallback_message", 80, 15, "b"))
    assert totals(found) == (220, 30, 250)
    assert [iteration.beside for iteration in found.iterations] == [True, False]


@pytest.mark.parametrize("iterations", [None, "odd", [], ["odd"], [{"type": 1}], [{"input_tokens": 1}]])
def test_any_other_json_changes_nothing(iterations: object) -> None:
    found = usage({"input_tokens": 1, "output_tokens": 2, "iterations": iterations})
    assert found is not None
    assert totals(found) == (1, 2, 3)
    assert found.iterations == []


def test_unknown_counters_stay_unknown() -> None:
    found = read(5, 13, {"type": "compaction", "input_tokens": "odd"}, entry("message", 5, 13))
    assert totals(found) == (5, 13, 18)
    assert found.iterations[0].input_tokens is None
