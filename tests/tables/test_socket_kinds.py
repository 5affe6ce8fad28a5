"""What reads the frames of websockets: any JSON object gives a result, and bodies of any prefix can be read."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.realtime_server import added, answer, created, event, session, speech, spoken, transcribed
from tests.support.scale import scaled

from callspan.providers import registry
from callspan.providers.sockets import SocketKind, Turn

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
DELEGATED = {"type": "response.created", "response": {"id": "r", "model": "m"}}
EVENTS: dict[str, list[dict[str, Any]]] = {
    "/responses": [
        {"type": "response.created", "stream_id": "a", "response": {"id": "r", "previous_response_id": "p"}},
        {"type": "response.output_text.delta", "stream_id": "a", "output_index": 0, "content_index": 0, "delta": "Hi"},
        {"type": "response.steer.accepted", "stream_id": "a", "steer": {"id": "s", "previous_response_id": "r"}},
        {"type": "error", "stream_id": "a", "error": {"message": "No."}},
        {"type": "response.completed", "stream_id": "a", "response": {"id": "r", "output": [], "usage": {}}},
    ],
    "/realtime": [
        session(),
        *speech("item_1"),
        *transcribed("item_1", "Hello."),
        *answer("resp_1", "Hi."),
        created("resp_2"),
        *spoken("resp_2", "Hi."),
        event("error", error={"code": "conversation_already_has_active_response"}),
        event("conversation.item.truncated", item_id="item_1", content_index=0, audio_end_ms=1),
        event("conversation.item.deleted", item_id="item_1"),
    ],
    "/live/sessions": [
        event("session.started", session={"id": "s", "model": "m", "audio": {"format": {"type": "audio/pcm"}}}),
        event("session.output_transcript.delta", delta="Hi", start_ms=1, end_ms=2),
        event("session.usage.updated", usage={"seconds": 3}),
        event("response.event", delegation_id="d", event=DELEGATED),
        event("decision.event", event={"type": "decision.completed", "decision": {"model": "m", "answers": []}}),
        event("session.closed", reason="expired", session={"id": "s"}, usage={"seconds": 4}),
    ],
}
BIDI = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
EVENTS[BIDI] = [
    {"setupComplete": {}},
    {"serverContent": {"inputTranscription": {"text": "Hello."}}},
    {"serverContent": {"modelTurn": {"parts": [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": "AAAA"}}]}}},
    {"serverContent": {"modelTurn": {"parts": [{"text": "Hi"}]}, "outputTranscription": {"text": "Hi"}}},
    {"toolCall": {"functionCalls": [{"id": "a", "name": "f", "args": {}}]}, "usageMetadata": {"promptTokenCount": 1}},
    {"toolCallCancellation": {"ids": ["a"]}},
    {"serverContent": {"interrupted": True}},
    {"serverContent": {"turnComplete": True}, "usageMetadata": {"promptTokenCount": 1, "promptTokensDetails": []}},
    {"error": {"code": 429, "message": "No."}},
]
EVENTS["/v1beta/interactions/live"] = [
    {"event_type": "interaction.connected", "interaction": {"id": "i", "model": "m", "status": "in_progress"}},
    {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
    {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "Hi"}},
    {"event_type": "step.delta", "index": 0, "delta": {"type": "audio", "mime_type": "audio/pcm", "data": "AAAA"}},
    {"events": [{"event_type": "step.stop", "index": 0}, {"event_type": "error", "error": {"message": "No."}}]},
    {"event_type": "interaction.completed", "status": {"code": 3}, "usage": {"total_input_tokens": 1}},
]
for _one in EVENTS["/realtime"]:
    if "audio.delta" in _one["type"]:
        _one["delta"] = "AAAA"
SENT = [
    {"type": "response.create", "response": {"metadata": {"a": "b"}, "conversation": "none", "input": []}},
    {"type": "response.create", "stream_id": "a", "model": "m", "input": "Hi"},
    {"type": "response.steer", "previous_response_id": "r", "input": "Hi"},
    {"type": "session.start", "session": {"model": "m"}},
    {"setup": {"model": "models/m", "tools": []}},
    {"client_content": {"turns": [{"parts": [{"text": "Hi"}]}], "turn_complete": True}},
    {"tool_response": {"functionResponses": [{"id": "a", "name": "f", "response": {}}]}},
    {"realtime_input": {"text": "Hi"}},
    {"event_type": "interaction.connect", "id": "i"},
    {"events": [{"event_type": "input", "content": [{"type": "text", "text": "Hi"}]}]},
]


def kind_of(path: str) -> SocketKind | None:
    return registry.socket_kind(path, "gpt-realtime" if path == "/realtime" else None)


class Observer:
    """Does with each step what the driver does, and reads every body."""

    def __init__(self, kind: SocketKind) -> None:
        self._kind = kind
        self._folds: dict[Turn, Any] = {}

    def send(self, frame: dict[str, Any]) -> None:
        self._kind.sent(frame, self._kind.create(frame))

    def receive(self, given: dict[str, Any]) -> None:
        if not self._kind.accepts(given):
            return
        self._kind.short_event(json.dumps(given))
        for each in (self._kind.repeated(), given):
            for step in [] if each is None else self._kind.received(each, 1):
                self._read(step.turn, step.event)

    def _read(self, turn: Turn, given: dict[str, Any]) -> None:
        endpoint = registry.by_api(turn.api)
        fold = self._folds.setdefault(turn, endpoint.accumulator())
        if given:
            fold.add(given)
        body = fold.body()
        endpoint.request(turn.body)
        endpoint.response_info(body)
        endpoint.conversation(turn.body, body)


@pytest.mark.parametrize("path", [*EVENTS, "/realtime/translations"])
@settings(max_examples=scaled(40, 1000))
@given(st.data())
def test_any_event_is_accepted(path: str, data: st.DataObject) -> None:
    observer = Observer(kind_of(path))
    events = EVENTS.get(path, EVENTS["/live/sessions"])
    for _ in range(data.draw(st.integers(1, 12))):
        if data.draw(st.booleans()):
            observer.send(changed(data.draw(st.sampled_from(SENT)), data))
        observer.receive(changed(data.draw(st.sampled_from(events)), data))


def steps(kind: SocketKind, *events: dict[str, Any]) -> list[tuple[str, Turn]]:
    return [(step.action, step.turn) for one in events for step in kind.received(one, 1)]


def begun(kind: SocketKind, *frames: dict[str, Any]) -> list[Turn]:
    """The calls of creates that are sent."""
    turns = []
    for frame in frames:
        turn = kind.create(frame)
        kind.sent(frame, turn)
        turns.append(turn)
    return turns


def test_answered_items_are_released() -> None:
    kind = kind_of("/realtime")
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(60):
        picture = {"type": "input_image", "image_url": "data:image/png;base64," + f"{number:08}" * 12_500}
        steps(kind, added(f"item_{number}", "user", [picture]), *answer(f"resp_{number}", "Hi."))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 1_000_000


def changed(given: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """An event with one value replaced, at any depth, by anything."""
    made = json.loads(json.dumps(given))
    holder: Any = made
    while data.draw(st.booleans()):
        names = [key for key, value in items_of(holder) if isinstance(value, dict | list) and value]
        if not names:
            break
        holder = holder[data.draw(st.sampled_from(names))]
    names = [key for key, _ in items_of(holder)]
    if names and data.draw(st.booleans()):
        holder[data.draw(st.sampled_from(names))] = data.draw(JSON)
    return made


def items_of(holder: Any) -> list[tuple[Any, Any]]:
    return list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder))


def test_unspecific_error_belongs_to_the_only_create() -> None:
    kind = kind_of("/realtime")
    first, second = begun(kind, {"type": "response.create"})[0], {"type": "response.create"}
    assert steps(kind, event("error", error={"code": "server_error", "param": None})) == [("fail", first)]
    (turn,) = begun(kind, second)
    assert {one for _, one in steps(kind, *answer("resp_2", "Hi."))} == {turn}


@pytest.mark.parametrize("path", ["/realtime", "/responses"])
def test_unsent_create_is_not_answered(path: str) -> None:
    """The receiver takes what was sent while a send still waits for the network."""
    kind = kind_of(path)
    (withdrawn,) = begun(kind, {"type": "response.create"})
    withdrawn.is_withdrawn = True
    (first, own), *_ = steps(kind, {"type": "response.created", "response": {"id": "resp_1"}})
    assert (first, own is withdrawn) == ("begin", False)
    assert steps(kind, event("error", error={"code": "server_error", "param": None})) in ([], [("fail", own)])


@pytest.mark.parametrize("is_running", [True, False])
def test_event_whose_response_nobody_announced_begins_no_call(is_running: bool) -> None:
    kind = registry.socket_kind("/realtime")
    assert kind is not None
    begun = kind.received(created("resp_1"), 0) if is_running else []
    about = {"response_id": "other", "item_id": "i", "output_index": 0, "content_index": 0}
    steps = kind.received(event("response.output_text.delta", **about, delta="Hi"), 0)
    assert [step.action for step in steps] == (["chunk"] if is_running else [])
    assert {step.turn for step in steps} == {step.turn for step in begun}


def test_end_whose_response_nobody_announced_ends_the_one_that_runs() -> None:
    """A server that names a response anew at its end has no second one."""
    kind = registry.socket_kind("/realtime")
    assert kind is not None
    (begin, *_) = kind.received(created("resp_1"), 0)
    done = event("response.done", response={"id": "other", "status": "completed", "output": []})
    ended, next_one = kind.received(done, 0), kind.received(created("resp_2"), 0)
    assert [(step.action, step.turn is begin.turn) for step in ended] == [("chunk", True), ("end", True)]
    assert [(step.action, step.turn is begin.turn) for step in next_one] == [("begin", False), ("chunk", False)]
