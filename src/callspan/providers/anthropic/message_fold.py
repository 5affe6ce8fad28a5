"""Messages streams: where the news of each event belong in a message.

Wire reference: https://docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from callspan.providers.fold.events import BLOCK, EventFold, Place
from callspan.providers.fold.merge import Json, is_json
from callspan.providers.wire_json import text


class MessageFold(EventFold):
    """Joins the events of a message."""

    entries = "content"
    ends = frozenset({"message_stop"})
    defaults: ClassVar = {"type": "message", "role": "assistant", "content": []}
    places: ClassVar = {
        "message_start": Place((), "message", "", "begin"),
        "message": Place((), "", "", "done"),
        "content_block_start": Place(BLOCK, "content_block", "", "begin"),
        "content_block_stop": Place(BLOCK, "", "", "stop"),
        "text_delta": Place(BLOCK, "text", "text", "grow", ("text",)),
        "thinking_delta": Place(BLOCK, "thinking", "thinking", "grow", ("thinking",)),
        "input_json_delta": Place(BLOCK, "partial_json", "partial_json", "grow", ("tool_use",)),
        "citations_delta": Place(BLOCK, "citation", "citation", "grow", ("text",)),
        "signature_delta": Place(BLOCK, "", "", "last", ("thinking",)),
        "compaction_delta": Place(BLOCK, "", "", "last", ("compaction",)),
        "message_delta": Place((), "delta", "", "last", rest=True),
        "message_stop": Place((), "delta", "", "last", rest=True),
    }

    def body(self) -> Json | None:
        """Return the message so far, with `error` if one was received; only the error if nothing else was."""
        body = super().body()
        for block in body["content"] if body is not None and isinstance(body.get("content"), list) else ():
            model = text(block, "to", "model") if text(block, "type") == "fallback" else None
            if body is not None and model:
                body["model"] = model
        return body

    def _finished(self, number: int, entry: Any) -> Any:
        if not isinstance(entry, dict) or not (written := entry.pop("partial_json", "")):
            return super()._finished(number, entry)
        if is_json(written):
            entry["input"] = json.loads(written)
        else:
            entry |= {"input": written, "incomplete": True}
        return entry
