"""What reads the frames of websockets: any JSON object gives a result, and bodies of any prefix can be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.intercept.realtime_server import answer, created, event, session, speech, spoken, transcribed
from tests.scale import scaled

from callspan.providers import registry
from callspan.providers.sockets import MESSAGES, SocketKind, Turn

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
for _one in EVENTS["/realtime"]:
    if "audio.delta" in _one["type"]:
        _one["delta"] = "AAAA"
SENT = [
    {"type": "response.create", "response": {"metadata": {"a": "b"}, "conversation": "none", "input": []}},
    {"type": "response.create", "stream_id": "a", "model": "m", "input": "Hi"},
    {"type": "response.steer", "previous_response_id": "r", "input": "Hi"},
    {"type": "session.start", "session": {"model": "m"}},
]


class Observer:
    """Does with each step what the driver does, and reads every body."""

    def __init__(self, kind: SocketKind) -> None:
        self._kind = kind
        self._folds: dict[Turn, Any] = {}

    def send(self, frame: dict[str, Any]) -> None:
        self._kind.sent(frame, self._kind.create(frame))

    def receive(self, given: dict[str, Any]) -> None:
        if not isinstance(given.get("type"), str):
            return
        self._kind.counted(json.dumps(given))
        for each in (self._kind.repeated(), given):
            for turn, one in [] if each is None else self._pieces(each):
                self._read(turn, one)

    def _pieces(self, given: dict[str, Any]) -> list[tuple[Turn, dict[str, Any]]]:
        turn = self._kind.running(given)
        if turn is not None and MESSAGES not in given:
            return [(turn, given)]
        return [(step.turn, step.event) for step in self._kind.received(given, 1)]

    def _read(self, turn: Turn, given: dict[str, Any]) -> None:
        endpoint = registry.by_api(turn.api)
        assert endpoint is not None
        fold = self._folds.setdefault(turn, endpoint.accumulator())
        if given:
            fold.add(given)
        body = fold.body()
        endpoint.request(turn.body)
        endpoint.response_info(body)
        endpoint.conversation(turn.body, body)


@pytest.mark.parametrize("path", [*EVENTS, "/realtime/translations"])
@settings(max_examples=scaled(100, 2000))
@given(st.data())
def test_any_event_gives_a_result(path: str, data: st.DataObject) -> None:
    kind = registry.socket_kind(path)
    assert kind is not None
    observer = Observer(kind)
    events = EVENTS.get(path, EVENTS["/live/sessions"])
    for _ in range(data.draw(st.integers(1, 12))):
        if data.draw(st.booleans()):
            observer.send(changed(data.draw(st.sampled_from(SENT)), data))
        observer.receive(changed(data.draw(st.sampled_from(events)), data))


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
