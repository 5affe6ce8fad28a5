"""Hosted agents: paths of requests, and events of any shape as facts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.providers import routes
from callspan.providers.anthropic.sessions import Sessions
from callspan.providers.hosted import HostedPath, ModelRequest, SessionFacts, events_in, path_of
from callspan.providers.openai.agent_sessions import AgentSessions

ANTHROPIC = HostedPath(api="sessions", what="stream", session_id="s1")
OPENAI = HostedPath(api="agent_sessions", what="stream", session_id="s1")
USAGE = {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = (
    "span.model_request_start", "span.model_request_end", "span.outcome_evaluation_end", "agent.message",
    "agent.tool_use", "agent.tool_result", "agent.mcp_tool_use", "user.message", "user.custom_tool_result",
    "session.error", "session.usage", "session.updated", "session.status_idle", "agent.session.turn.created",
    "agent.session.turn.completed", "agent.session.turn.item.done", "agent.session.turn.output_text.done",
    "agent.session.idle",
)  # fmt: skip
FIELDS = (
    "id", "processed_at", "model_usage", "usage", "content", "input", "name", "tool_use_id", "error", "agent", "turn",
    "turn_id", "item", "item_id", "text", "session", "model_request_start_id", "is_error", "session_thread_id",
)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "what", "ids"),
    [
        ("post", "/v1/sessions", "session", (None, None)),
        ("get", "/v1/sessions?limit=3", "sessions", (None, None)),
        ("get", "/v1/sessions/s1", "session", ("s1", None)),
        ("POST", "/v1/sessions/s1/events?beta=true", "send", ("s1", None)),
        ("get", "https://a.example.com/v1/sessions/s1/events", "events", ("s1", None)),
        ("get", "/v1/sessions/s%201/events/stream", "stream", ("s 1", None)),
        ("get", "/v1/sessions/s1/threads/t1/stream", "stream", ("s1", "t1")),
        ("get", "/v1/sessions/s1/threads/t1/events", "events", ("s1", "t1")),
        ("get", "/agents/sessions/s1/events", "stream", ("s1", None)),
        ("post", "/agents/sessions/s1/events", "send", ("s1", None)),
        ("get", "/agents/sessions/s1/turns/turns", "turns", ("s1", None)),
        ("get", "/agents/sessions/s1/subagents/a1/turns/t1", "turns", ("s1", "a1")),
    ],
)
def test_requests_about_sessions_are_known_by_their_path(
    method: str, path: str, what: str, ids: tuple[str | None, str | None]
) -> None:
    route = routes.find(method, path)
    assert route is not None
    assert route.path.kind == "hosted"
    found = path_of(route)
    assert (found.what, (found.session_id, found.thread_id)) == (what, ids)
    assert (found.api == "agent_sessions") == ("/agents/" in path)


@pytest.mark.parametrize(
    "path",
    [
        "/live/sessions", "/realtime/sessions", "/chatkit/sessions", "/v1/sessions/s1/archive", "/v1/messages",
        "/agents/sessions/s1/items", "/agents/sessions/s1/artifacts", "/v1/sessions/s1/resources/r1", "/files",
        "/v1/sessionsx/s1/events", "/agents/sessions/s1/turns/t1/items", "/agents/sessions/s1/traces",
    ],
)  # fmt: skip
def test_other_requests_are_not(path: str) -> None:
    route = routes.find("get", path)
    assert route is None or route.path.kind != "hosted"


FILLED = st.dictionaries(st.sampled_from(FIELDS), JSON)
EVENT = st.builds(lambda kind, fields: {"type": kind, **fields}, st.sampled_from(KINDS), FILLED)


@given(st.lists(EVENT, max_size=6), JSON)
def test_events_of_any_shape_are_read(events: list[dict[str, Any]], body: object) -> None:
    """Nothing raises; what has no id is no model request."""
    for reader, path in ((Sessions(), ANTHROPIC), (AgentSessions(), OPENAI)):
        fold = reader.fold(path)
        for fact in (fact for event in [*events, body] for fact in fold.add(event)):
            assert not isinstance(fact, ModelRequest) or fact.key
        for what in ("session", "sessions", "turns", "threads", "thread"):
            reader.facts(HostedPath(api=path.api, what=what), body)
        reader.sent(HostedPath(api=path.api, what="send", session_id="s1"), body, body)
        events_in(body)


def model_request(number: int, *between: dict[str, Any], **end: Any) -> list[dict[str, Any]]:
    begun = {"type": "span.model_request_start", "id": f"s{number}", "processed_at": "2026-11-20T10:00:00Z"}
    ended = {"type": "span.model_request_end", "id": f"e{number}", "model_request_start_id": f"s{number}"}
    return [begun, *between, {**ended, "model_usage": USAGE, "processed_at": "2026-11-20T10:00:01.5+00:00", **end}]


def requests(events: list[dict[str, Any]]) -> list[ModelRequest]:
    fold = Sessions().fold(ANTHROPIC)
    return [fact for event in events for fact in fold.add(event) if isinstance(fact, ModelRequest)]


def test_what_another_thread_posts_is_not_this_ones() -> None:
    use = {"type": "agent.custom_tool_use", "id": "u1", "name": "x", "input": {}}
    mine, other = {**use, "id": "u2"}, {**use, "session_thread_id": "t2"}
    (request,) = requests(model_request(1, mine, other))
    assert [block["id"] for block in request.output or [] if isinstance(block, dict)] == ["u2"]
    assert (request.start_ns, request.end_ns) == (1_795_168_800_000_000_000, 1_795_168_801_500_000_000)


def test_what_the_agent_says_between_requests_is_input_of_the_next() -> None:
    late = {"type": "agent.message", "id": "m1", "content": [{"type": "text", "text": "late"}]}
    first, second = requests([*model_request(1), late, *model_request(2)])
    assert (first.input, second.input) == ([], [{"role": "assistant", "content": late["content"]}])


@pytest.mark.parametrize(("kind", "expected"), [
    ("model_overloaded_error", "overloaded"), ("model_rate_limited_error", "rate_limit"),
    ("model_request_failed_error", "server"), ("billing_error", "quota"),
])  # fmt: skip
def test_the_error_of_a_session_is_that_of_its_request(kind: str, expected: str) -> None:
    stated = {"type": "session.error", "id": "x", "error": {"type": kind, "message": "No."}}
    (request,) = requests(model_request(1, stated, is_error=True))
    assert request.error is not None
    assert (request.outcome, request.error.kind, request.error.type) == ("error", expected, kind)


def test_an_evaluation_counts_unless_its_requests_are_events() -> None:
    begun = {"type": "span.outcome_evaluation_start", "id": "v1"}
    ended = {"type": "span.outcome_evaluation_end", "id": "v2", "usage": USAGE, "result": "satisfied"}
    (alone,) = requests([begun, ended])
    assert (alone.key, alone.operation, alone.other_model, alone.usage) == ("v2", "evaluation", True, USAGE)
    assert [one.key for one in requests([begun, *model_request(1), ended])] == ["e1"]
    assert requests([ended]) == []


def test_an_updated_agent_changes_the_model() -> None:
    event = {"type": "session.updated", "id": "x", "agent": {"id": "a", "model": {"id": "claude-y"}, "name": "N"}}
    (fact,) = Sessions().fold(ANTHROPIC).add(event)
    assert isinstance(fact, SessionFacts)
    assert (fact.model, fact.name) == ("claude-y", "N")
