"""Several spans of one call are one record: in any order, in any batches, again, and after a restart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest
from tests.receive.conftest import (
    HERE,
    History,
    Inbox,
    Kept,
    Ownership,
    Sender,
    WaitingRecords,
    session_of_conversation,
    span,
    traces,
)  # fmt: skip

from callspan.records import CallRecord

Json = dict[str, Any]
RECORDINGS: dict[str, list[Json]] = json.loads((HERE / "spans.json").read_text())
"""What real instrumentations emitted for one call, by the instrumentations: 1,000 tokens in, of which 900 were read
from a cache, 50 out, of which 30 were reasoning; for Anthropic 40 of the input were written to the cache."""
CHAT: Json = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5-mini"}
INNER = {**CHAT, "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 5}
OUTER = {**INNER, "gen_ai.usage.cache_read.input_tokens": 8, "operation.cost": 0.25, "gen_ai.response.id": "chatcmpl-1",
         "gen_ai.conversation.id": "c1"}  # fmt: skip
EMBEDDING = {**INNER, "gen_ai.operation.name": "embeddings"}
HTTP = {"http.request.method": "POST"}
TOOL = {"gen_ai.operation.name": "execute_tool"}


def spans_of(recording: str) -> list[Json]:
    """The spans of a recording, in the order in which they ended."""
    made = []
    for row in RECORDINGS[recording]:
        item = span(row["attributes"], row["span"], row["parent"], name=row["name"])
        if "error" in row:
            item["status"] = {"code": 2, "message": row["error"]}
        if "exception" in row:
            item["events"] = [{"name": "exception", "attributes": span(row["exception"])["attributes"]}]
        made.append({"scope": row["scope"], **item})
    return made


class Receivers(Kept):
    """Receivers, one after the other."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        directory.mkdir()
        self.restart()

    def restart(self) -> None:
        self.inbox.close()
        self.inbox = Inbox(self._write, self.unrecorded.append)
        waiting = WaitingRecords(self._directory / "waiting", lambda record, _: record)
        self.inbox.resume(waiting, History(self._directory / "history"), Sender())

    def send(self, *spans: Json) -> None:
        groups = [
            traces({key: item for key, item in span.items() if key != "scope"}, scope=span.get("scope", "theirs"))
            for span in spans
        ]
        scopes = [scope for group in groups for part in group["resourceSpans"] for scope in part["scopeSpans"]]
        assert self.take({"resourceSpans": [{**groups[0]["resourceSpans"][0], "scopeSpans": scopes}]}, "traces")


@pytest.fixture
def receivers(tmp_path: Path) -> Receivers:
    return Receivers(tmp_path / "receivers")


def facts(call: CallRecord) -> list[object]:
    usage, response = call.usage, call.response
    assert response is not None
    counts = [] if usage is None else [usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cost_usd]
    return [call.span_id, response.id, call.place.session_id, *counts]


NAMED = session_of_conversation("c1", Ownership(service="web"))
ADDED = [f"{1:016x}", "chatcmpl-1", NAMED, 10, 5, 8, Decimal("0.25")]
NESTINGS: dict[str, tuple[list[Json], list[list[object]]]] = {
    "within another": ([span(INNER, 1, 2), span(OUTER, 2)], [ADDED]),
    "two within one": (
        [span(INNER, 1, 3), span(INNER, 2, 3), span(OUTER, 3)],
        [[f"{number:016x}", None, NAMED, 10, 5, None, None] for number in (1, 2)],
    ),
    "below a tool": (
        [span(INNER, 1, 2), span(TOOL, 2, 3), span(OUTER, 3)],
        [[f"{1:016x}", None, None, 10, 5, None, None], [f"{3:016x}", *ADDED[1:]]],
    ),
    "an embedding below": (
        [span(EMBEDDING, 1, 2), span(OUTER, 2)],
        [[f"{1:016x}", None, None, 10, 5, None, None], [f"{2:016x}", *ADDED[1:]]],
    ),
    "its own parent": ([span(OUTER, 1, 1)], [ADDED]),
}
"""Spans, and what their records are."""


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("nesting", NESTINGS)
def test_every_order_of_arrival(tmp_path: Path, nesting: str, restarts: bool) -> None:
    spans, expected = NESTINGS[nesting]
    for number, order in enumerate(permutations(spans)):
        for is_cut in product([False, True], repeat=len(spans) - 1):
            receivers = Receivers(tmp_path / f"{number}{is_cut}")
            for batch in batches(order, is_cut):
                receivers.send(*batch)
                if restarts:
                    receivers.restart()
            before = [facts(call) for call in receivers.calls.values()]
            assert sorted(before, key=str) == sorted(expected, key=str)
            assert receivers.unrecorded == []
            receivers.send(*spans)
            for item in order:
                receivers.send(item)
            assert [facts(call) for call in receivers.calls.values()] == before, "redelivered"


def batches(order: Sequence[Json], is_cut: Sequence[bool]) -> Iterable[list[Json]]:
    batch = [order[0]]
    for item, starts in zip(order[1:], is_cut, strict=True):
        if starts:
            yield batch
            batch = []
        batch.append(item)
    yield batch


@pytest.mark.parametrize("between", [HTTP, CHAT, {"openinference.span.kind": "CHAIN"}], ids=str)
@pytest.mark.parametrize("order", [*permutations(range(3))])
@pytest.mark.parametrize("is_cut", [*product([False, True], repeat=2)])
def test_a_span_between(kept: Kept, between: Json, order: tuple[int, ...], is_cut: tuple[bool, bool]) -> None:
    """If what lies between comes last of all, alone, both are written. One of the records then counts nothing."""
    spans = [span(INNER, 1, 2), span(between, 2, 3), span(OUTER, 3)]
    for batch in batches([spans[number] for number in order], is_cut):
        kept.take(traces(*batch), "traces")
    calls = list(kept.calls.values())
    assert sum((call.usage and call.usage.input_tokens) or 0 for call in calls) == 10
    is_late = order[2] == 1 and is_cut[1]
    assert (len(calls), len(kept.unrecorded)) == ((2, 1) if is_late else (1, 0))
    assert facts(next(call for call in calls if call.usage is not None)) == ADDED


def test_the_next_receiver_knows_what_lies_between(receivers: Receivers) -> None:
    for item in (span(INNER, 1, 2), span(HTTP, 2, 3), span(HTTP, 3, 4), span(OUTER, 4)):
        receivers.send(item)
        receivers.restart()
    assert [facts(call) for call in receivers.calls.values()] == [ADDED]


def test_what_memory_has_let_go_of_is_counted(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.receive.spans._MAX_BYTES", 5 * 2_000)
    kept = Kept()
    kept.take(traces(span(INNER, 1, 2)), "traces")
    kept.take(traces(*(span(INNER, number) for number in range(3, 7))), "traces")
    kept.take(traces(span(OUTER, 2)), "traces")
    assert len(kept.calls) == 6
    assert kept.unrecorded == ["spans of calls that were recorded by another span before"]


@pytest.mark.parametrize("is_first", [True, False])
def test_outer_spans_of_own_calls_count_nothing(kept: Kept, is_first: bool) -> None:
    """The process of callspan's own span writes the record."""
    own = {"callspan.call_id": "0199"}
    spans = [span(own, 1, 2, name="chat gpt-5"), span(HTTP, 2, 3), span(OUTER, 3)]
    for item in spans if is_first else spans[::-1]:
        kept.take(traces(item), "traces")
    assert [call.usage for call in kept.calls.values()] == ([] if is_first else [None])


def test_levels_of_all_spans_hold(kept: Kept) -> None:
    kept.take(traces(span(INNER, 1, 2)), "traces", Sender(level="metadata"))
    kept.levels.clear()
    kept.take(traces(span(OUTER, 2)), "traces", Sender(level="full"))
    assert kept.levels == {"metadata"}


RESULTS: list[tuple[str, list[tuple[object, ...]]]] = [
    ("pydantic-ai 2.68: chat", [("openai", "unknown", 1000, 50, 900, None, 30, "0.0001475", "stop")]),
    ("pydantic-ai 2.68: anthropic", [("anthropic", "unknown", 1000, 50, 900, 40, None, "0.00135", "stop")]),
    (
        "pydantic-ai 2.68, OpenInference: chat",
        [("openai", "span_messages", 1000, 50, 900, None, 30, "0.0001475", "stop")],
    ),
    (
        "pydantic-ai 2.68, OpenInference: responses",
        [("openai", "span_messages", 1000, 50, 900, None, 30, "0.0001475", "stop")],
    ),
    (
        "pydantic-ai 2.68, OpenInference: anthropic",
        [
            ("anthropic", "span_messages", None, None, None, None, None, None, None),
            ("anthropic", "span_messages", 1000, 50, 900, 40, None, None, "end_turn"),
        ],
    ),
    (
        "pydantic-ai 2.68, OpenLLMetry 0.62: chat",
        [("openai", "span_messages", 1000, 50, 900, None, 30, "0.0001475", "stop")],
    ),
    ("OpenInference 0.1.66: chat", [("openai", "span_messages", 1000, 50, 900, None, 30, None, "stop")]),
    ("OpenInference 0.1.66: responses", [("openai", "span_messages", 1000, 50, 900, None, 30, None, None)]),
    ("OpenInference 0.1.66: embeddings", [("openai", "embeddings", 28, None, None, None, None, None, None)]),
    ("OpenInference 0.1.66: anthropic", [("anthropic", "span_messages", 1000, 50, 900, 40, None, None, "end_turn")]),
    ("OpenLLMetry 0.62: chat stream", [("openai", "span_messages", 1000, 50, 900, None, None, None, "stop")]),
    ("OpenLLMetry 0.62: responses", [("openai", "span_messages", 1000, 50, 900, None, 30, None, "stop")]),
    ("OpenLLMetry 0.62: anthropic", [("anthropic", "span_messages", 1000, 50, 900, 40, None, None, "stop")]),
    ("OpenLLMetry 0.47: chat", [("openai", "span_messages", 1000, 50, 900, None, 30, None, "stop")]),
    ("OpenLLMetry 0.47: responses", [("openai", "span_messages", 1000, 50, 900, None, 30, None, None)]),
    ("OpenLLMetry 0.47: embeddings", [("openai", "embeddings", 28, None, 0, None, None, None, None)]),
    ("OpenLLMetry 0.47: anthropic", [("anthropic", "span_messages", 1000, 50, 900, 40, None, None, "end_turn")]),
    ("Vercel 5: openai chat stream", [("openai", "chat_completions", 1000, 50, 900, None, 30, None, "stop")]),
    ("Vercel 5: anthropic", [("anthropic", "messages", 1000, 50, 900, 40, None, None, "stop")]),
    ("Vercel 5: google", [("gcp.gemini", "generate_content", 1000, 50, 900, None, 30, None, "stop")]),
    ("Vercel 5: object", [("anthropic", "messages", 1000, 50, 900, 40, None, None, "stop")]),
    ("Vercel 5: embed", [("openai", "embeddings", 28, None, None, None, None, None, None)]),
    ("Vercel 5: embedMany", [("openai", "embeddings", 28, None, None, None, None, None, None)]),
    ("Vercel 6: openai responses", [("openai", "responses", 1000, 50, 900, None, 30, None, "stop")]),
    ("Vercel 6: anthropic", [("anthropic", "messages", 1000, 50, 900, 40, None, None, "stop")]),
    ("Vercel 6: google", [("gcp.gemini", "generate_content", 1000, 50, 900, None, 30, None, "stop")]),
    ("Vercel 6: embed", [("openai", "embeddings", 28, None, None, None, None, None, None)]),
    ("Vercel 6: embedMany", [("openai", "embeddings", 28, None, None, None, None, None, None)]),
]
"""The calls of a recording: provider, API, input, output, cache read, cache write, reasoning, cost, finish reason.
A call whose spans state its messages has the API of these."""


def summary(call: CallRecord) -> tuple[object, ...]:
    usage = call.usage
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    cost = None if usage is None or usage.cost_usd is None else str(usage.cost_usd)
    return (call.provider, call.api, *(getattr(usage, name, None) for name in names), cost, call.finish_reason)


@pytest.mark.parametrize("is_last_first", [False, True])
@pytest.mark.parametrize(("recording", "expected"), RESULTS)
def test_real_instrumentations(
    receivers: Receivers, recording: str, expected: list[tuple[object, ...]], is_last_first: bool
) -> None:
    spans = spans_of(recording)
    for item in spans[::-1] if is_last_first else spans:
        receivers.send(item)
    calls = list(receivers.calls.values())
    assert sorted(map(summary, calls), key=str) == sorted(expected, key=str)
    assert receivers.unrecorded == []
    has_session = recording.startswith("pydantic-ai")
    assert all((call.place.session_id is not None) == has_session for call in calls)


ERRORS = [name for name in RECORDINGS if name.endswith("error")]


@pytest.mark.parametrize("recording", ERRORS)
def test_errors_of_real_instrumentations(receivers: Receivers, recording: str) -> None:
    receivers.send(*spans_of(recording))
    (call,) = receivers.calls.values()
    error = call.error
    assert (call.outcome, error is not None) == ("error", True)
    assert error is not None
    if recording == "pydantic-ai 2.68: error":
        assert error.type == "ModelRateLimitError", "it states nothing else at this level of content"
        return
    assert "Too many requests." in str(error.message)
    assert error.type in ("RateLimitError", "AI_APICallError")
    assert error.kind == ("rate_limit" if error.type == "RateLimitError" else "unknown")
