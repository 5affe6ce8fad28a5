"""`callspan show` of a call: every known field, a dash for unknown ones, and no terminal control characters."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from callspan.cli.screen import Screen
from callspan.cli.show import print_call
from callspan.records import (
    Attempt,
    CallRecord,
    Conversation,
    Cost,
    ErrorInfo,
    Media,
    Message,
    Part,
    Place,
    Reasoning,
    Redaction,
    Refusal,
    Request,
    Response,
    Stream,
    StreamEnd,
    Text,
    Timing,
    ToolCall,
    ToolResult,
    UnknownPart,
    Usage,
)

from .conftest import SECOND, START_NS, made


@pytest.fixture
def page(capsys: pytest.CaptureFixture[str]) -> Any:
    """Print a call and return its lines."""

    def page(call: CallRecord) -> list[str]:
        print_call(Screen(), call)
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return page


def labelled(lines: list[str], label: str) -> list[str]:
    return [line[12:] for line in lines if line.startswith(f"{label:<12}")]


def test_a_call_without_data_has_dashes_and_says_why(page: Any) -> None:
    lines = page(made(took_ns=None, request=Request()))
    assert lines[0] == "chat \N{EN DASH}  success"
    assert [line[:12].rstrip() for line in lines[1:]] == ["call", "provider", "time", "tokens", "cost", "no cost"]
    assert labelled(lines, "provider") == ["unknown unknown at \N{EN DASH}:\N{EN DASH}"]
    assert labelled(lines, "tokens") == labelled(lines, "cost") == ["\N{EN DASH}"]
    assert labelled(lines, "time")[0].endswith(", took \N{EN DASH}")


@pytest.mark.parametrize(
    ("fields", "label", "expected"),
    [
        ({"place": Place(session_id="s")}, "session", "s (no name)"),
        ({"place": Place(session_id="s", session_name="run", timestep=0)}, "session", "s (run)"),
        ({"trace_id": "ab", "span_id": "cd"}, "trace", "ab  span cd"),
        ({"batch_id": "batch_1", "custom_id": "line-7"}, "batch", "batch_1, line line-7"),
        (
            {"provider": "openai", "api": "responses", "server_address": "h", "server_port": 443},
            "provider",
            "openai responses at h:443",
        ),
        ({"usage": Usage()}, "tokens", "\N{EN DASH} in, \N{EN DASH} out"),
        ({"usage": Usage(input_tokens=0, output_tokens=0)}, "tokens", "0 in, 0 out"),
        (
            {"usage": Usage(input_tokens=1234, cache_read_tokens=0, cache_write_tokens=5, reasoning_tokens=6)},
            "tokens",
            "1,234 in, \N{EN DASH} out (of them 0 cached, 5 to cache, 6 reasoning)",
        ),
        ({"cost": Cost(usd=Decimal("0.00125"), source="mine v1")}, "cost", "$0.00125 by mine v1"),
        ({"stream": Stream(end="closed", chunks=1000)}, "stream", "ended by closed, 1,000 chunks, not whole"),
        ({"stream": Stream(end="cut_off", chunks=7)}, "stream", "cut off after 7 chunks"),
        ({"stream": Stream(end="complete", complete=True)}, "stream", "ended by complete, 0 chunks, whole"),
        ({"response": Response(finish_reasons=["stop", None, "length"])}, "finished", "stop, length"),
        ({"request": Request(params={"temperature": 0, "stop": None})}, "parameters", '{"temperature":0,"stop":null}'),
        ({"redactions": [Redaction(what="request.body", why="content")]}, "left out", "request.body (content)"),
        ({"error": ErrorInfo(kind="server", type="overloaded")}, "error", "server: overloaded"),
    ],
)
def test_each_field_of_a_call_is_one_line(page: Any, fields: dict[str, Any], label: str, expected: str) -> None:
    assert labelled(page(made(**fields)), label) == [expected]


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({"response": Response()}, "finished"),
        ({"response": Response(finish_reasons=[None])}, "finished"),
        ({"request": Request()}, "parameters"),
        ({}, "session"),
        ({}, "stream"),
        ({}, "error"),
        ({}, "trace"),
        ({"attempts": [Attempt(number=1, start_ns=0, status=200)]}, "attempt 1"),
    ],
)
def test_absent_fields_have_no_line(page: Any, fields: dict[str, Any], label: str) -> None:
    assert labelled(page(made(**fields)), label) == []


@pytest.mark.parametrize("level", ["metadata", "off"])
def test_where_nothing_is_shown_the_level_says_why(page: Any, level: Any) -> None:
    """Of a call whose answer alone was read at a stricter level, the prompt is shown."""
    assert page(made(content_level=level))[-2:] == ["", f"content is {level}"]
    asked = Conversation(input=[Message(role="user", parts=[Text(text="Hi")])])
    assert page(made(content_level=level, conversation=asked))[-2:] == ["user", "  Hi"]


@pytest.mark.parametrize("end", ["complete", "closed", "dropped", "error", "cancelled"])
def test_every_end_of_a_stream_is_named(page: Any, end: StreamEnd) -> None:
    assert labelled(page(made(stream=Stream(end=end))), "stream")[0].startswith(f"ended by {end}, ")


def test_the_first_token_is_reported_also_at_no_time_at_all(page: Any) -> None:
    timing = Timing(start_ns=START_NS, duration_ns=2 * SECOND, first_token_ns=0)
    assert labelled(page(made(timing=timing)), "time")[0].endswith(", took 2.00 s, first token after 0 ms")


def test_attempts_are_reported_where_there_was_more_than_one(page: Any) -> None:
    tries = [
        Attempt(number=1, start_ns=0, status=429, planned_wait_s=0.5, request_id="req-1"),
        Attempt(number=2, start_ns=SECOND, error_type="ConnectError", planned_wait_s=0.0),
        Attempt(number=3, start_ns=2 * SECOND),
        Attempt(number=4, start_ns=61 * SECOND, status=200),
    ]
    lines = page(made(attempts=tries))
    assert [labelled(lines, f"attempt {number}") for number in (1, 2, 3, 4)] == [
        ["429 at 0 ms, then waited 500 ms, request req-1"],
        ["ConnectError at 1.00 s, then waited 0 ms"],
        ["no answer at 2.00 s"],
        ["200 at 1 min 01 s"],
    ]


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (Text(text="a\nb"), ["a", "b"]),
        (Text(text=""), [""]),
        (Refusal(text="never"), ["(refused) never"]),
        (Reasoning(text="hm"), ["(thinking) hm"]),
        (Reasoning(), ["(thinking) sealed"]),
        (Reasoning(text="", sealed="abc"), ["(thinking) sealed"]),
        (ToolCall(name="f", arguments='{"a":'), ['f({"a":)']),
        (ToolCall(incomplete=True), ["tool() (cut off)"]),
        (ToolResult(content="42"), ["42"]),
        (ToolResult(content=[{"text": "x"}], is_error=True), ['(error) [{"text":"x"}]']),
        (ToolResult(), ["null"]),
        (Media(modality="image", mime="image/png", url="http://h/p.png"), ["(image image/png http://h/p.png)"]),
        (Media(modality="audio", file_id="file-1", sha256="ff"), ["(audio  file-1)"]),
        (Media(modality="video", sha256="ff"), ["(video  ff)"]),
        (Media(modality="document"), ["(document  inline)"]),
        (Media(modality="image", url="u" * 200), [f"(image  {'u' * 80})"]),
        (UnknownPart(data={"type": "hologram"}), ['{"type":"unknown","data":{"type":"hologram"}}']),
        (Text(text="\x1b[2J\u202e[bold]"), ["\ufffd[2J\ufffd[bold]"]),
    ],
)
def test_every_kind_of_part_is_shown(page: Any, part: Part, shown: list[str]) -> None:
    lines = page(made(conversation=Conversation(output=[Message(role="assistant", parts=[part])])))
    assert [line.removeprefix("  ") for line in lines[lines.index("assistant answer") + 1 :]] == shown


def test_turns_are_in_order_with_the_system_first_and_each_choice_an_answer(page: Any) -> None:
    conversation = Conversation(
        system=[Text(text="be kind")],
        input=[Message(role="user", parts=[Text(text="hi")]), Message(role="", parts=[])],
        output=[Message(role="assistant", finish_reason="stop"), Message(role="assistant\x1b", finish_reason="length")],
    )
    lines = page(made(conversation=conversation))
    heads = [lines[at + 1] for at, line in enumerate(lines) if line == ""]
    assert heads == ["system", "user", "?", "assistant answer stop", "assistant\ufffd answer length"]


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        ({"name": "look", "type": "function"}, "look"),
        ({"type": "function", "function": {"name": "inner"}}, "inner"),
        ({"type": "web_search"}, "web_search"),
        ({"name": 7, "function": "odd", "type": None}, "?"),
        ("a string", "?"),
        (None, "?"),
        ({"name": "bad\x1b\nname"}, "bad\ufffd name"),
    ],
)
def test_a_tool_is_shown_by_its_name_or_type(page: Any, tool: object, name: str) -> None:
    assert labelled(page(made(conversation=Conversation(tools=[tool]))), "tools") == [name]


def test_a_long_error_is_wrapped_whole_and_clean(page: Any) -> None:
    message = "because " * 30 + "\x1b]0;owned\x07"
    lines = page(made(outcome="error", error=ErrorInfo(kind="k", type="t", status=500, message=message)))
    assert lines[0] == "chat gpt-5  error 500"
    text = " ".join(lines)
    assert text.count("because") == 30
    assert "\x1b" not in text
    assert "\x07" not in text
