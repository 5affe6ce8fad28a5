"""Messages streams: folds events into the message that the endpoint returns without streaming.

Wire reference: https://docs.anthropic.com/en/docs/build-with-claude/streaming. Blocks are identified by their
index; text, thinking and tool input come in pieces, which are joined when the body is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from callspan.providers.wire_json import (
    StringBuilder,
    detached,
    detached_object,
    integer,
    items,
    mapping,
    overlay,
    text,
)

_PIECES: Final = {
    "text_delta": ("text", "text", "text"),
    "thinking_delta": ("thinking", "thinking", "thinking"),
    "input_json_delta": ("partial_json", "input", "tool_use"),
}
"""Deltas with pieces of text: source field, target field, and the block type if no block was started."""

_VALUES: Final = frozenset({"signature_delta", "compaction_delta"})
"""Deltas with complete values, named like the fields of the block."""

_BESIDE: Final = {"signature_delta": "thinking", "citations_delta": "text"}
"""Deltas without content, and the type of their block."""

_TOOL_USE: Final = "tool_use"
_EVENT_FIELDS: Final = frozenset({"type", "index", "delta", "usage", "message", "content_block", "error"})


class _BlockAccumulator:
    """One content block under construction."""

    __slots__ = ("fields", "pieces", "stopped")

    def __init__(self, fields: dict[str, object]) -> None:
        self.fields = fields
        self.pieces: dict[str, StringBuilder] = {}
        self.stopped = False

    def body(self, ended: bool) -> dict[str, object]:
        """Return the block so far; an incomplete tool call is marked."""
        body = detached_object(self.fields)
        for key, pieces in self.pieces.items():
            if key != "input":
                body[key] = (text(body, key) or "") + pieces.joined()
        whole = self.stopped or ended
        written = self.pieces["input"].joined() if "input" in self.pieces else ""
        if written:
            body["input"], whole = _parsed(written)
        if not whole and (text(body, "type") or "").endswith(_TOOL_USE):
            body["incomplete"] = True
        return body


class MessageAccumulator:
    """Folds the chunks of one Messages stream. Satisfies `callspan.providers.base.Accumulator`."""

    __slots__ = (
        "_blocks",
        "_error",
        "_last",
        "_message",
        "_next",
        "_usage",
        "complete",
        "terminated",
    )

    def __init__(self) -> None:
        self.complete = self.terminated = False
        self._message: dict[str, object] | None = None
        self._usage: dict[str, object] = {}
        self._blocks: dict[int, _BlockAccumulator] = {}
        self._error: dict[str, object] | None = None
        self._last = self._next = 0

    def body(self) -> dict[str, object] | None:
        """Return the message so far, with `error` if one was received; only the error if nothing else was."""
        if self._message is None and not self._blocks and not self._usage:
            return None if self._error is None else detached_object(self._error)
        body = detached_object(self._state())
        body["content"] = [self._blocks[index].body(self.complete) for index in sorted(self._blocks)]
        if self._usage:
            body["usage"] = detached(self._usage)
        if self._error is not None:
            body["error"] = detached(self._error.get("error") or self._error)
        return body

    def add(self, chunk: object) -> bool:
        """Fold in one parsed event; return True if it carried text, thinking or a tool call. Never raises."""
        kind = chunk.get("type") if isinstance(chunk, dict) else None
        fold = _EVENTS.get(kind) if isinstance(kind, str) else None
        return fold is not None and isinstance(chunk, dict) and fold(self, chunk)

    def _start(self, chunk: dict[str, object]) -> bool:
        return self._take_message(mapping(chunk, "message") or {})

    def _take_message(self, message: dict[str, object]) -> bool:
        """Set the start of a message, or a complete one from a server that does not stream."""
        content = items(message, "content")
        for block in content:
            self._open(None, mapping(block) or {}).stopped = True
        overlay(self._usage, mapping(message, "usage") or {})
        known = self._state()
        for key, value in message.items():
            if key not in {"content", "usage"} and known.get(key) is None:
                known[key] = detached(value)
        self.complete = self.complete or bool(text(message, "stop_reason"))
        # A message that has a stop reason at its start is complete.
        self.terminated = self.terminated or bool(text(message, "stop_reason"))
        return bool(content)

    def _start_block(self, chunk: dict[str, object]) -> bool:
        given = mapping(chunk, "content_block") or {}
        block = self._open(integer(chunk, "index"), given)
        model = text(given, "to", "model") if given.get("type") == "fallback" else None
        if model:
            self._state()["model"] = model
        kind = text(block.fields, "type")
        return bool(block.fields.get(kind)) if kind in {"text", "thinking"} else kind is not None

    def _delta(self, chunk: dict[str, object]) -> bool:
        delta, index = chunk.get("delta"), chunk.get("index")
        if not isinstance(delta, dict):
            return False
        at = index if type(index) is int else integer(index)
        kind = delta.get("type")
        piece = _PIECES.get(kind) if isinstance(kind, str) else None
        if piece is not None:
            return self._add_piece(at, piece, delta)
        kind = text(delta, "type")
        if kind is None:
            return False
        block = self._block(at, _BESIDE.get(kind) or kind.removesuffix("_delta"))
        if kind in _VALUES:
            block.fields.update(
                (key, detached(value)) for key, value in delta.items() if key != "type" and value is not None
            )
        elif kind == "citations_delta":
            _grow(block.fields, "citations", delta.get("citation"))
        else:
            _grow(block.fields, "deltas", delta)
        return kind not in _BESIDE

    def _add_piece(self, index: int | None, names: tuple[str, str, str], delta: dict[str, object]) -> bool:
        source, key, block_type = names
        piece = delta.get(source)
        if not isinstance(piece, str):
            return False
        block = self._blocks.get(self._last if index is None else index) or self._block(index, block_type)
        pieces = block.pieces.get(key)
        if pieces is None:
            pieces = block.pieces[key] = StringBuilder()
        pieces.add(piece)
        return piece != ""

    def _stop_block(self, chunk: dict[str, object]) -> bool:
        index = integer(chunk, "index")
        block = self._blocks.get(self._last if index is None else index)
        if block is not None:
            block.stopped = True
        return False

    def _delta_message(self, chunk: dict[str, object]) -> bool:
        known = self._state()
        for key, value in (mapping(chunk, "delta") or {}).items():
            if value is not None or key not in known:
                known[key] = detached(value)
        overlay(self._usage, mapping(chunk, "usage") or {})
        self._keep_rest(chunk)
        self.complete = self.complete or bool(text(chunk, "delta", "stop_reason"))
        return False

    def _stop(self, chunk: dict[str, object]) -> bool:
        self._keep_rest(chunk)
        self.complete = self.terminated = True
        return False

    def _fail(self, chunk: dict[str, object]) -> bool:
        self._error = detached_object(chunk)
        return False

    def _keep_rest(self, chunk: dict[str, object]) -> None:
        """Keep the fields next to the delta: context management, metrics of Bedrock."""
        for key, value in chunk.items():
            if key not in _EVENT_FIELDS and value is not None:
                self._state()[key] = detached(value)

    def _state(self) -> dict[str, object]:
        if self._message is None:
            self._message = {"type": "message", "role": "assistant"}
        return self._message

    def _open(self, index: int | None, given: dict[str, object]) -> _BlockAccumulator:
        block = _BlockAccumulator(detached_object(given))
        self._last = self._next if index is None else index
        self._next = max(self._next, self._last + 1)
        self._blocks[self._last] = block
        return block

    def _block(self, index: int | None, block_type: str) -> _BlockAccumulator:
        """The block at `index`, the last one if there is none given, or a new one."""
        place = self._last if index is None else index
        block = self._blocks.get(place)
        return self._open(place, {"type": block_type}) if block is None else block


_EVENTS: Final[dict[str, Callable[[MessageAccumulator, dict[str, object]], bool]]] = {
    "message_start": MessageAccumulator._start,
    "content_block_start": MessageAccumulator._start_block,
    "content_block_delta": MessageAccumulator._delta,
    "content_block_stop": MessageAccumulator._stop_block,
    "message_delta": MessageAccumulator._delta_message,
    "message_stop": MessageAccumulator._stop,
    "message": MessageAccumulator._take_message,
    "error": MessageAccumulator._fail,
}


def _grow(fields: dict[str, object], key: str, item: object) -> None:
    held = fields.get(key)
    if isinstance(held, list):
        held.append(detached(item))
    else:
        fields[key] = [detached(item)]


def _parsed(written: str) -> tuple[object, bool]:
    """Return the tool input as (parsed JSON, True), or as (received text, False)."""
    try:
        return json.loads(written), True
    except (ValueError, RecursionError):
        return written, False
