"""Log events of Codex, as it sent them, in whatever batches and however often they come."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.receive.conftest import PROGRAMS, Events, Kept, Place, Sender, logs, recorded

from callspan.records import CallRecord, EventRecord, MessageRecord, SessionRecord

RUN = recorded("codex")
EVENTS = [event for events in RUN for event in events]


def sent(kept: Kept, requests: list[Events], sender: Sender | None = None) -> list[CallRecord]:
    for events in requests:
        assert kept.take(logs(events, "codex_exec"), sender=sender)
    return list(kept.calls.values())


def named(name: str) -> Events:
    return [event for event in EVENTS if event["event.name"] == f"codex.{name}"]


def facts(calls: list[CallRecord]) -> list[Any]:
    return [
        (call.call_id, call.usage, call.timing, call.attempts, call.outcome, call.error, call.metadata, call.part)
        for call in calls
    ]


def test_each_answered_request_is_one_exact_call(kept: Kept) -> None:
    first, second = sent(kept, RUN)
    counted = [event for event in named("sse_event") if "input_token_count" in event]
    for call, event in zip((first, second), counted, strict=True):
        assert call.usage is not None
        assert (call.usage.input_tokens, call.usage.output_tokens, call.usage.cache_read_tokens) == tuple(
            int(event[f"{kind}_token_count"]) for kind in ("input", "output", "cached")
        )
        assert call.timing.start_ns + (call.timing.duration_ns or 0) == event["time_ns"]
        assert (call.provider, call.model, call.outcome, call.sdk) == ("openai", "gpt-5", "success", "codex/2.1.332")
        assert [note.why for note in call.redactions] == ["not_received"] * 2
    assert [[attempt.status for attempt in call.attempts] for call in (first, second)] == [[200], [500, 200]]
    assert (first.retries, second.retries) == (0, 1)
    delta = next(event["time_ns"] for event in named("sse_event") if event["event.kind"].endswith(".delta"))
    assert first.timing.start_ns + (first.timing.first_token_ns or 0) == delta


def test_a_tool_belongs_to_the_call_that_requested_it(kept: Kept) -> None:
    first, _ = sent(kept, RUN)
    (tool,) = kept.of(EventRecord)
    (result,) = named("tool_result")
    assert (tool.call_id, tool.tool_call_id, tool.name) == (first.call_id, result["call_id"], "exec_command")
    assert (tool.data["arguments"], tool.data["result"]) == ({"cmd": "cat a.txt"}, result["output"])
    assert (tool.metadata["decision"], tool.error) == ("approved", None)


def test_the_session_is_that_of_the_sender_else_the_conversation(kept: Kept) -> None:
    ident = EVENTS[0]["conversation.id"]
    sent(kept, RUN)
    kept.inbox.close()
    start, end = kept.of(SessionRecord)
    assert (start.session_id, start.end_ns, end.outcome) == (ident, None, "success")
    (prompt,) = kept.of(MessageRecord)
    assert (prompt.sender, prompt.content, prompt.session_id) == ("user", "say hi", ident)
    ours = Kept()
    calls = sent(ours, RUN, Sender(place=Place(session_id="ours"), level="metadata"))
    ours.inbox.close()
    assert ({call.place.session_id for call in calls}, ours.of(SessionRecord)) == ({"ours"}, [])
    assert ours.levels == {"metadata"}
    # Started in a session, and told by its user to send elsewhere: to a receiver that did not start it.
    elsewhere = Kept()
    for events in RUN:
        request = logs(events, "codex_exec")
        attribute = {"key": "callspan.session.id", "value": {"stringValue": "theirs"}}
        request["resourceLogs"][0]["resource"]["attributes"].append(attribute)
        assert elsewhere.take(request)
    elsewhere.inbox.close()
    placed = {record.place.session_id for record in elsewhere.calls.values()}
    placed |= {record.session_id for kind in (EventRecord, MessageRecord) for record in elsewhere.of(kind)}
    assert (placed, elsewhere.of(SessionRecord)) == ({"theirs"}, [])


def test_events_without_a_conversation_have_no_session(kept: Kept) -> None:
    nameless = [
        [{key: item for key, item in each.items() if key != "conversation.id"} for each in events] for events in RUN
    ]
    calls = sent(kept, nameless)
    kept.inbox.close()
    assert ({call.place.session_id for call in calls}, kept.of(SessionRecord)) == ({None}, [])


@pytest.mark.parametrize("seed", range(8))
def test_batches_and_repetition_change_nothing(kept: Kept, seed: int) -> None:
    random = Random(seed)
    expected = facts(sent(Kept(), [EVENTS]))
    batches, rest = [], list(EVENTS)
    while rest:
        size = random.randint(1, 9)
        batches += [rest[:size]] * random.choice((1, 1, 2))
        rest = rest[size:]
    assert facts(sent(kept, batches)) == expected
    assert len(kept.of(EventRecord)) == len(kept.of(MessageRecord)) == 1


def test_events_that_say_nothing_of_a_call_are_no_failure(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """Most events of a stream, and requests to endpoints without tokens."""
    caplog.set_level("DEBUG", "callspan")
    others = [
        {**event, "endpoint": "/models", "time_ns": event["time_ns"] + 1, "event.name": f"codex.{name}"}
        for event in named("api_request")
        for name in ("api_request", "websocket_request")
    ]
    assert any(event["event.name"] == "codex.sse_event" and "input_token_count" not in event for event in EVENTS)
    calls = sent(kept, [*RUN, others])
    kept.inbox.close()
    assert len(calls) == len(kept.calls) == 2
    assert [record.getMessage() for record in caplog.records if "Could not" in record.getMessage()] == []


def test_what_is_not_over_is_in_progress_until_the_end(kept: Kept) -> None:
    """So that a killed process leaves it interrupted."""
    cut = next(index for index, event in enumerate(EVENTS) if "input_token_count" in event)
    (call,) = sent(kept, [EVENTS[:cut]])
    assert (call.outcome, call.part, call.process is not None) == ("in_progress", "started", True)
    kept.inbox.close()
    (call,) = kept.calls.values()
    assert (call.outcome, call.part) == ("interrupted", "ended")


def test_a_call_that_failed_after_all_attempts(kept: Kept) -> None:
    (failed,) = (event for event in named("api_request") if "error.message" in event)
    again = {**failed, "time_ns": failed["time_ns"] + 10**9, "attempt": 1, "http.response.status_code": 429}
    (call,) = sent(kept, [[failed], [again]])
    assert (call.outcome, call.retries, call.error and call.error.kind) == ("error", 1, "rate_limit")
    kept.inbox.close()
    assert kept.of(SessionRecord)[-1].outcome == "error"


def test_a_refused_tool_is_recorded_without_a_result(kept: Kept) -> None:
    events = [event for event in EVENTS if event["event.name"] != "codex.tool_result"]
    events = [{**event, "decision": "denied"} if "decision" in event else event for event in events]
    sent(kept, [events])
    (tool,) = kept.of(EventRecord)
    assert (tool.error and tool.error.type, tool.error and tool.error.message) == ("rejected", "denied")


def test_anything_may_be_missing(kept: Kept) -> None:
    for name in {key for event in EVENTS for key in event if key != "time_ns"}:
        other = Kept()
        sent(
            other, [[{key: value for key, value in event.items() if key != name} for event in events] for events in RUN]
        )
        other.inbox.close()
    (call,) = sent(kept, [EVENTS[-1:]])
    assert (call.outcome, call.usage and call.usage.total_tokens, call.attempts) == ("success", 19, [])


@pytest.mark.parametrize(
    ("arguments", "config", "is_set_up"),
    [
        (["exec", "hi"], "model = 'x'\n", False),
        (["-c", "otel.environment=x"], "", True),
        (["--config=otel.exporter=none"], "", True),
        ([], "[otel]\nexporter = 'none'\n", True),
        ([], "otel.environment = 'x'\n", True),
        ([], '[otel.exporter."otlp-http"]\n', True),
        ([], "[hotel]\n", False),
    ],
)
def test_settings_of_the_user_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], config: str, is_set_up: bool
) -> None:
    (tmp_path / "config.toml").write_text(config)
    monkeypatch.chdir(tmp_path)
    assert PROGRAMS["codex"].is_set_up({"CODEX_HOME": str(tmp_path)}, arguments) is is_set_up


def test_prompts_are_asked_for_at_full_content_only() -> None:
    for level in ("full", "metadata", "off"):
        arguments = PROGRAMS["codex"].arguments("http://127.0.0.1:1/t", Sender(level=level))
        assert arguments[-1] == f"otel.log_user_prompt={str(level == 'full').lower()}"
