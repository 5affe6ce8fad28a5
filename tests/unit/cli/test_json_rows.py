"""Rows: the stable names of `--json`, with null for what is unknown."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from callspan.cli.json_rows import (
    call_row,
    output_text,
    session_row,
    short_ids,
)
from callspan.formatting import exact
from callspan.record.messages import short_texts
from callspan.records import (
    Attempt,
    Conversation,
    Cost,
    ErrorInfo,
    Media,
    Message,
    Part,
    Place,
    Reasoning,
    Refusal,
    Request,
    Response,
    Stream,
    Text,
    Timing,
    ToolCall,
    ToolResult,
    UnknownPart,
    Usage,
)

from .conftest import START_NS, made, session, summed

_UNKNOWN_OF_A_CALL = {
    "session_id", "session_name", "batch_id", "custom_id", "timestep_position", "timestep_id", "trace_id", "span_id",
    "user", "response_id", "request_id", "response_model", "error_type",
    "error_kind", "error_message", "http_status", "retries", "stream_end", "input_tokens", "output_tokens",
    "cache_read_tokens", "reasoning_tokens", "cost_usd", "duration_ms", "first_token_ms", "server_ms", "output",
    "rate_limited", "stream", "finish_reason",
}  # fmt: skip


def test_unknown_fields_of_a_call_row_are_none() -> None:
    row = call_row(made(took_ns=None))
    assert {name for name, value in row.items() if value is None} == _UNKNOWN_OF_A_CALL
    assert row["finish_reasons"] == []
    assert (row["model"], row["outcome"]) == ("gpt-5", "success")


def test_all_fields_of_a_call_row() -> None:
    row = call_row(
        made(
            place=Place(session_id="s", session_name="run", timestep=0, timestep_id="t"),
            response=Response(model="gpt-5-x", finish_reasons=["stop", None]),
            usage=Usage(input_tokens=0, output_tokens=2, cache_read_tokens=0, reasoning_tokens=1),
            cost=Cost(usd=Decimal("1E-7"), source="t"),
            timing=Timing(start_ns=START_NS, duration_ns=1_234_567, first_token_ns=0),
            stream=Stream(end="dropped"),
            retries=0,
        ),
        4,
    )
    expected = {
        "session_id": "s", "session_name": "run", "timestep_position": 4, "timestep_id": "t",
        "response_model": "gpt-5-x",
        "finish_reasons": ["stop", None], "input_tokens": 0, "output_tokens": 2, "cache_read_tokens": 0,
        "reasoning_tokens": 1, "cost_usd": "0.0000001", "duration_ms": 1.235, "first_token_ms": 0.0, "server_ms": None,
        "stream_end": "dropped", "retries": 0, "start_ns": START_NS,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "model"),
    [
        ({"request": Request()}, None),
        ({"request": Request(), "response": Response(model="answered")}, "answered"),
        ({"request": Request(model="asked"), "response": Response(model="answered")}, "asked"),
        ({"request": Request(), "response": Response()}, None),
    ],
)
def test_the_model_is_the_requested_one_else_the_one_of_the_response(fields: dict[str, Any], model: str | None) -> None:
    assert call_row(made(**fields))["model"] == model


def _error(status: int | None) -> ErrorInfo:
    return ErrorInfo(kind="server", type="server_error", status=status)


@pytest.mark.parametrize(
    ("error", "attempts", "status"),
    [
        (None, [], None),
        (None, [200], 200),
        (None, [429, 200], 200),
        (None, [None], None),
        (_error(500), [200], 500),
        (_error(None), [503], 503),
        (_error(None), [], None),
    ],
)
def test_the_status_is_the_errors_else_that_of_the_last_attempt(
    error: ErrorInfo | None, attempts: list[int | None], status: int | None
) -> None:
    tried = [Attempt(number=at, start_ns=0, status=one) for at, one in enumerate(attempts, 1)]
    assert call_row(made(error=error, attempts=tried))["http_status"] == status


@pytest.mark.parametrize(
    ("part", "pieces"),
    [
        (Text(text="hello"), ["hello"]),
        (Text(text=""), [""]),
        (Refusal(text="no"), ["no"]),
        (Reasoning(text="secretly"), []),
        (ToolCall(name="look", arguments='{"a":1}'), ['look({"a":1})']),
        (ToolCall(), ["tool()"]),
        (ToolResult(content="x"), ["<toolresult>"]),
        (Media(modality="image"), ["<media>"]),
        (UnknownPart(data={"type": "hologram"}), ["<unknownpart>"]),
    ],
)
def test_the_short_text_of_every_kind_of_part(part: Part, pieces: list[str]) -> None:
    assert list(short_texts(Message(role="assistant", parts=[part]))) == pieces


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ([], None),
        ([[]], None),
        ([[Reasoning(text="hm")]], None),
        ([[Text(text="")]], None),
        ([[Text(text="one")], [Text(text="two")]], "one two"),
        ([[Text(text="x" * 300)]], "x" * 200),
        ([[Text(text="see"), ToolCall(name="f", arguments="{}")]], "see f({})"),
    ],
)
def test_the_short_text_of_messages_is_absent_without_content(output: list[list[Part]], expected: str | None) -> None:
    messages = [Message(role="assistant", parts=parts) for parts in output]
    assert output_text(made(conversation=Conversation(output=messages))) == expected


def test_a_call_without_a_conversation_has_no_known_messages() -> None:
    assert output_text(made()) is None


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (None, None),
        ("0", "0"),
        ("1E-9", "0.000000001"),
        ("1E+3", "1000"),
        ("0.10", "0.10"),
        ("123456789012345678901234567890.000000001", "123456789012345678901234567890.000000001"),
    ],
)
def test_amounts_are_exact_and_have_no_exponent(usd: str | None, text: str | None) -> None:
    assert exact(None if usd is None else Decimal(usd)) == text


@pytest.mark.parametrize(
    ("start", "end", "last", "lasted"),
    [
        (None, None, None, None),
        (None, 5, 9, None),
        (5, None, None, None),
        (5, None, 9, 4),
        (5, 8, 99, 3),
        (9, 5, None, 0),
        (0, 4, None, 4),
        (7, 7, None, 0),
    ],
)
def test_the_duration_of_a_session_as_far_as_known(
    start: int | None, end: int | None, last: int | None, lasted: int | None
) -> None:
    assert summed(session(start_ns=start, end_ns=end), last_ns=last).duration_ns == lasted


def test_unknown_fields_of_a_session_row_are_none() -> None:
    row = session_row(summed())
    unknown = {name for name, value in row.items() if value is None}
    assert unknown == {
        "first_error",
        "name", "user_id", "group_id", "task_id", "experiment", "start", "start_ns", "end_ns", "duration_ms", "outcome",
        "success", "reward", "input_tokens", "output_tokens", "cost_usd", "trace_id", "retries", "active_ms",
    }  # fmt: skip
    assert (row["timesteps"], row["calls"], row["errors"], row["events"], row["models"]) == (0, 0, 0, 0, [])


def test_a_failed_session_is_false_and_a_reward_of_zero_is_zero() -> None:
    row = session_row(summed(session(success=False, metadata={"seed": 3}), reward=0.0, cost_usd=Decimal("0.10")))
    assert (row["success"], row["reward"], row["cost_usd"], row["metadata"]) == (False, 0.0, "0.10", {"seed": 3})


@pytest.mark.parametrize(
    ("ids", "besides", "short"),
    [
        (["a"], [], {"a": "a"}),
        (["x" * 40], [], {"x" * 40: "x" * 13}),
        (["abcdefghijkl-mnop"], [], {"abcdefghijkl-mnop": "abcdefghijkl"}),
        (
            ["0123456789abcXa", "0123456789abcXb"],
            [],
            {"0123456789abcXa": "0123456789abcXa", "0123456789abcXb": "0123456789abcXb"},
        ),
        (["same", "same"], ["same"], {"same": "same"}),
        (["", "b"], [], {"": "", "b": "b"}),
    ],
)
def test_ids_are_shortened_to_unique_prefixes(ids: list[str], besides: list[str], short: dict[str, str]) -> None:
    assert short_ids(ids, besides) == short


def test_shortened_ids_are_unique_beginnings() -> None:
    ids = [f"01990000-0000-7000-8000-{number:012x}" for number in range(0, 4000, 37)]
    short = short_ids(ids)
    for one, shown in short.items():
        assert [other for other in ids if other.startswith(shown)] == [one]
