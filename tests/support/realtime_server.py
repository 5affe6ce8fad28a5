"""The events that a server sends in realtime sessions, in live ones and in translations."""

from __future__ import annotations

import base64
import json
from itertools import count
from pathlib import Path
from typing import Any

SECOND = base64.b64encode(bytes(48_000)).decode()
"""A second of silence."""
_SHOWN: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text())
SESSION, USAGE, TRANSLATION = _SHOWN["session"], _SHOWN["usage"], _SHOWN["translation"]
_NUMBERS = count(1)


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "event_id": f"event_{next(_NUMBERS)}", **fields}


def session(**fields: Any) -> dict[str, Any]:
    return event("session.created", session={**SESSION, **fields})


def item(identity: str, role: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": identity, "object": "realtime.item", "type": "message", "role": role, "content": content}


def added(identity: str, role: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return event("conversation.item.added", item=item(identity, role, content))


def response(identity: str, **fields: Any) -> dict[str, Any]:
    shown = {"id": identity, "object": "realtime.response", "status": "in_progress", "output": []}
    return {**shown, "conversation_id": "conv_1", "audio": {"output": SESSION["audio"]["output"]}, **fields}


def created(identity: str, **fields: Any) -> dict[str, Any]:
    return event("response.created", response=response(identity, **fields))


def spoken(identity: str, *words: str, seconds: int = 1) -> list[dict[str, Any]]:
    """The events of an answer that is spoken: items, transcript, audio."""
    name = f"item_{identity}"
    about = {"response_id": identity, "item_id": name, "output_index": 0, "content_index": 0}
    begun = {"id": name, "object": "realtime.item", "type": "message", "role": "assistant", "status": "in_progress"}
    part = {"type": "audio", "transcript": ""}
    return [
        event("response.output_item.added", response_id=identity, output_index=0, item={**begun, "content": []}),
        event("conversation.item.added", item={**begun, "content": []}),
        event("response.content_part.added", **about, part=part),
        *(event("response.output_audio_transcript.delta", **about, delta=word) for word in words),
        *(event("response.output_audio.delta", **about, delta=SECOND) for _ in range(seconds)),
    ]


def done(identity: str, *words: str, status: str = "completed", **fields: Any) -> list[dict[str, Any]]:
    """The last event of a spoken answer."""
    content = [{"type": "output_audio", "transcript": "".join(words)}]
    output = [{**item(f"item_{identity}", "assistant", content), "status": status}]
    return [event("response.done", response=response(identity, status=status, output=output, usage=USAGE, **fields))]


def answer(identity: str, *words: str, **fields: Any) -> list[dict[str, Any]]:
    """A whole answer that is spoken."""
    return [created(identity), *spoken(identity, *words), *done(identity, *words, **fields)]


def transcribed(identity: str, *words: str, usage: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    kind, about = "conversation.item.input_audio_transcription", {"item_id": identity, "content_index": 0}
    usage = usage or {"type": "duration", "seconds": 1.5}
    return [
        *(event(f"{kind}.delta", **about, delta=word) for word in words),
        event(f"{kind}.completed", **about, transcript="".join(words), usage=usage),
    ]


def speech(identity: str, start_ms: int = 0, end_ms: int = 1500) -> list[dict[str, Any]]:
    """The events of the user's speech, as far as its item."""
    return [
        event("input_audio_buffer.speech_started", item_id=identity, audio_start_ms=start_ms),
        event("input_audio_buffer.speech_stopped", item_id=identity, audio_end_ms=end_ms),
        event("input_audio_buffer.committed", item_id=identity, previous_item_id=None),
        added(identity, "user", [{"type": "input_audio", "transcript": None}]),
    ]


def heard(side: str, text: str, start_ms: int = 0, end_ms: int = 10) -> dict[str, Any]:
    return event(f"session.{side}_transcript.delta", delta=text, start_ms=start_ms, end_ms=end_ms)


def used(**usage: Any) -> dict[str, Any]:
    return event("session.usage.updated", usage=usage)


def started(**fields: Any) -> dict[str, Any]:
    return event("session.started", session={**_SHOWN["live"], **fields})


def closed(reason: str = "close_requested", **usage: Any) -> dict[str, Any]:
    return event("session.closed", reason=reason, session=_SHOWN["live"], usage=usage)


def sounded() -> dict[str, Any]:
    return event("session.output_audio.delta", delta=SECOND)


def written(identity: str, *words: str, **fields: Any) -> list[dict[str, Any]]:
    """The events of a response of the Responses API; its last snapshot has these fields."""
    shown = {"id": identity, "object": "response", "model": "gpt-5", "output": []}
    about = {"item_id": "m", "output_index": 0, "content_index": 0}
    return [
        {"type": "response.created", "response": {**shown, "status": "in_progress"}},
        *({"type": "response.output_text.delta", **about, "delta": word} for word in words),
        {"type": "response.completed", "response": {**shown, "status": "completed", **fields}},
    ]


def delegated(name: str, *words: str) -> list[dict[str, Any]]:
    """A response that the session delegates: its snapshots have neither input nor output."""
    usage = {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}
    events = written(name, *words, usage=usage)
    return [event("response.event", delegation_id=f"of {name}", event=one) for one in events]


def decided(answer: str) -> dict[str, Any]:
    decision = {**_SHOWN["decision"], "answers": [{"type": "choice", "choice": answer}]}
    return event("decision.event", event={"type": "decision.completed", "decision": decision}, trigger_id="t")


def translated(side: str, delta: str, elapsed_ms: int) -> dict[str, Any]:
    """A word of a translation, whose sides speak at the same time."""
    return event(f"session.{side}_transcript.delta", delta=delta, elapsed_ms=elapsed_ms)
