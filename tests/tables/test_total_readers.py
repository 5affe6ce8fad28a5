"""JSON readers are total: values of other types are absent, nothing raises, nothing is shared with the original."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from tests.support.bodies import endpoint

from callspan.providers import wire_json
from callspan.providers.wire_json import detached

HALF = "a\ud800b"
DEEP: object = [[]]
for _ in range(5000):
    DEEP = [DEEP]
POISONS: list[dict[str, object]] = [{HALF: 1}, {"note": HALF}, {"note": DEEP}, {HALF: {HALF: HALF}}]


@pytest.mark.parametrize("poison", POISONS, ids=["name", "text", "depth", "everywhere"])
@pytest.mark.parametrize("within", ["usage", "details", "body", "choice"])
def test_a_lone_surrogate_does_not_lose_usage_model_or_id(within: str, poison: dict[str, object]) -> None:
    """JSON can hold half a surrogate pair, as a name too, and no encoder takes it."""
    details = {"cached_tokens": 1, **(poison if within == "details" else {})}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": details}
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    chat: dict[str, object] = {
        "id": "c1", "model": "gpt-x",
        "choices": [{**choice, **(poison if within == "choice" else {})}],
        "usage": {**usage, **(poison if within == "usage" else {})},
        **(poison if within == "body" else {}),
    }  # fmt: skip
    facts = endpoint("chat_completions").response_info(chat)
    assert (facts.response.id, facts.response.model, facts.response.finish_reasons) == ("c1", "gpt-x", ["stop"])
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens, facts.usage.cache_read_tokens) == (3, 4, 1)


@pytest.mark.parametrize(
    ("seconds", "at_ns"),
    [(1_763_640_000, 1_763_640_000_000_000_000), (True, None), (0, None), ("1", None), (2**70, None)],
)
def test_a_time_is_a_plausible_number_of_seconds(seconds: object, at_ns: int | None) -> None:
    assert wire_json.unix_ns(seconds) == at_ns


@pytest.mark.parametrize(
    "value",
    [{"pair": (1, 2)}, ("\0", "\ud83d", {"x": ("\ud83d",)}), {1: "a", 1.5: "b"}, {True: "c"}, {None: {False: (None,)}}],
)
def test_a_copy_is_what_the_wire_has(value: Any) -> None:
    """As the SDKs write it, with the standard library."""
    assert detached(value) == json.loads(json.dumps(value))


def test_values_that_are_not_json_are_converted() -> None:
    assert detached({"at": dt.date(2026, 1, 2)}) == {"at": "2026-01-02"}


def test_cyclic_values_are_cut_off() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    assert "<too deep>" in repr(detached(value))
