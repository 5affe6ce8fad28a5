"""Chat: requests, answers and event streams of version 2 of Cohere's chat.

An event has a piece of the message under `delta.message`, and an index that counts the parts of the content and the
tool calls apart. `message-end` with the finish reason and the usage comes last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from callspan.providers.cohere.base import CohereEndpoint
from callspan.providers.error_kinds import error_in
from callspan.providers.fold.blocks import Blocks
from callspan.providers.fold.entries import Entry
from callspan.providers.fold.merge import GrowingText, finished_copy, is_json, merge
from callspan.providers.fold.usage_merge import UsageRule
from callspan.providers.openai.chat import request_message, response_message
from callspan.providers.wire_json import Json, detached, items, mapping, objects, text, word
from callspan.record.messages import Conversation

_PLAN: Final = "tool_plan"
_MARKS: Final = "citations"
_TEXTS: Final = ("text", "thinking")
"""The types of parts of the content, each with its text in a field of this name."""
_STARTS: Final = frozenset({"content-start", "tool-call-start"})


class ChatFold:
    """Joins the events of a stream. Parts of the content and tool calls are two lists."""

    usage_rule: ClassVar[UsageRule] = "last whole"

    def __init__(self) -> None:
        self._body: Json = {}
        self._role: str | None = None
        self._plan = GrowingText()
        self._content = Blocks()
        self._calls = Blocks()
        self._citations: list[Any] = []
        self.complete = False
        """True once the last event was received."""

    @property
    def ended(self) -> bool:
        """True once the last event was received."""
        return self.complete

    def add(self, event: object) -> bool:
        """Fold in one event; return True if it carried content."""
        if not isinstance(event, dict):
            return False
        handler = self._handlers.get(str(event.get("type")))
        if handler is not None:
            return handler(self, event, mapping(event, "delta", "message") or {})
        if (error := error_in(event) or word(event, "message")) is not None:
            self._body["error"] = detached(error)
        return False

    def _started(self, event: Json, message: Json) -> bool:
        self._role = word(message, "role")
        if (identity := word(event, "id")) is not None:
            self._body["id"] = identity
        return False

    def _grown(self, event: Json, message: Json) -> bool:
        if (logprobs := event.get("logprobs")) is not None:
            self._body.setdefault("logprobs", []).extend(
                detached(logprobs if isinstance(logprobs, list) else [logprobs])
            )
        return _merged(self._content, event, mapping(message, "content"))

    def _called(self, event: Json, message: Json) -> bool:
        return _merged(self._calls, event, mapping(message, "tool_calls"))

    def _content_ended(self, event: Json, _: Json) -> bool:
        self._content.stop(_index(event))
        return False

    def _call_ended(self, event: Json, _: Json) -> bool:
        self._calls.stop(_index(event))
        return False

    def _planned(self, _: Json, message: Json) -> bool:
        self._plan.add(piece := text(message, _PLAN) or "")
        return piece != ""

    def _cited(self, _: Json, message: Json) -> bool:
        citation = message.get(_MARKS)
        self._citations += detached(citation if isinstance(citation, list) else [citation] if citation else [])
        return bool(citation)

    def _ended(self, event: Json, _: Json) -> bool:
        self.complete = True
        self._body |= detached(mapping(event, "delta") or {})
        return False

    def body(self) -> Json | None:
        """Return the body so far; None if nothing was received."""
        message: Json = {
            _PLAN: self._plan.text(),
            "content": [finished_copy(part.fields) for part in self._content.in_order()],
            "tool_calls": list(map(self._finished_call, self._calls.in_order())),
            _MARKS: list(self._citations),
        }
        stated = {name: value for name, value in message.items() if value}
        if not (self._body or self._role or stated):
            return None
        if not (self._role or stated):
            return detached(self._body)
        return {**detached(self._body), "message": {"role": self._role or "assistant", **stated}}

    def _finished_call(self, entry: Entry) -> Json:
        """Return a call as in a plain answer, marked if incomplete."""
        call: Json = finished_copy(entry.fields)
        arguments = (mapping(call, "function") or {}).get("arguments")
        is_whole = not entry.is_open or (is_json(arguments) if arguments else self.complete)
        return call if is_whole else {**call, "incomplete": True}

    _handlers: ClassVar[dict[str, Callable[[ChatFold, Json, Json], bool]]] = {
        "message-start": _started,
        "content-start": _grown,
        "content-delta": _grown,
        "content-end": _content_ended,
        "tool-plan-delta": _planned,
        "tool-call-start": _called,
        "tool-call-delta": _called,
        "tool-call-end": _call_ended,
        "citation-start": _cited,
        "message-end": _ended,
    }


def _merged(blocks: Blocks, event: Json, piece: Json | None) -> bool:
    """Add a piece to the block that it begins or continues; return True if it carried content."""
    if piece is None:
        return False
    about = _index(event), word(piece, "id"), next(filter(piece.__contains__, _TEXTS), word(piece, "type"))
    entry = blocks.begin(*about) if word(event, "type") in _STARTS else blocks.grow(*about)
    return merge(entry.fields, piece)


def _index(event: Json) -> int | None:
    index = event.get("index")
    return index if type(index) is int else None


class Chat(CohereEndpoint):
    """`/v2/chat`. Stateless."""

    content = frozenset({"model", "stream", "messages", "tools", "documents"})
    answer = frozenset({"id", "finish_reason", "usage"})
    usage_keys = ("usage",)
    finishes = True

    def accumulator(self) -> ChatFold:
        """Return a fresh accumulator."""
        return ChatFold()

    def _is_answer(self, body: object) -> bool:
        return mapping(body, "message") is not None and super()._is_answer(body)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies, typed. Either may be None."""
        answer = mapping(response, "message")
        choice: Json = {"message": _as_chat_completion(answer or {}), "finish_reason": word(response, "finish_reason")}
        return Conversation(
            input=[request_message(_as_chat_completion(message)) for message in objects(request, "messages")],
            output=[] if answer is None else [response_message(choice)],
            tools=list(map(detached, items(request, "tools"))),
        )


def _as_chat_completion(message: Json) -> Json:
    """Return a message as chat completions have it: the plan is its reasoning, the citations are annotations."""
    fields = {name: value for name, value in message.items() if name not in (_PLAN, _MARKS)}
    if fields.get("role") == "tool":
        fields["content"] = _result_content(fields.get("content"))
    return {**fields, "reasoning": message.get(_PLAN), "annotations": message.get(_MARKS)}


def _result_content(content: object) -> object:
    """Return the data of the documents that a tool returned, if they have nothing else: one alone, or a list."""
    documents = [mapping(block, "document") for block in content] if isinstance(content, list) else []
    data = [document["data"] for document in documents if document is not None and document.keys() == {"data"}]
    if not data or len(data) < len(documents):
        return content
    return data[0] if len(data) == 1 else data
