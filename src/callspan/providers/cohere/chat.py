"""Chat: requests, answers and event streams of version 2 of Cohere's chat.

An event has a piece of the message under `delta.message`, and an index that counts the parts of the content and the
tool calls apart. `message-end` with the finish reason and the usage comes last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from callspan.providers.cohere.base import CohereEndpoint
from callspan.providers.error_kinds import error_in
from callspan.providers.fold.merge import GrowingText, Json, finished_copy, is_json, merge
from callspan.providers.fold.usage_merge import UsageRule
from callspan.providers.openai.chat import request_message, response_message
from callspan.providers.wire_json import detached, items, mapping, objects, text, word
from callspan.record.messages import Conversation

_PLAN: Final = "tool_plan"
_MARKS: Final = "citations"


class ChatFold:
    """Joins the events of a stream: parts of the content and tool calls by their index."""

    usage_rule: ClassVar[UsageRule] = "last whole"

    def __init__(self) -> None:
        self._body: Json = {}
        self._role: str | None = None
        self._plan = GrowingText()
        self._content: dict[int, Json] = {}
        self._calls: dict[int, Json] = {}
        self._ended_calls: set[int] = set()
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
        return self._merged(self._content, event, message.get("content"))

    def _called(self, event: Json, message: Json) -> bool:
        return self._merged(self._calls, event, message.get("tool_calls"))

    @staticmethod
    def _merged(entries: dict[int, Json], event: Json, piece: object) -> bool:
        return isinstance(piece, dict) and merge(entries.setdefault(_index(entries, event), {}), piece)

    def _call_ended(self, event: Json, _: Json) -> bool:
        self._ended_calls.add(_index(self._calls, event))
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
            "content": [finished_copy(self._content[index]) for index in sorted(self._content)],
            "tool_calls": [self._finished_call(index) for index in sorted(self._calls)],
            _MARKS: list(self._citations),
        }
        stated = {name: value for name, value in message.items() if value}
        if not (self._body or self._role or stated):
            return None
        if not (self._role or stated):
            return detached(self._body)
        return {**detached(self._body), "message": {"role": self._role or "assistant", **stated}}

    def _finished_call(self, index: int) -> Json:
        """Return a call as in a plain answer, marked if incomplete."""
        call: Json = finished_copy(self._calls[index])
        arguments = (mapping(call, "function") or {}).get("arguments")
        is_whole = index in self._ended_calls or (isinstance(arguments, str) and is_json(arguments))
        return call if is_whole else {**call, "incomplete": True}

    _handlers: ClassVar[dict[str, Callable[[ChatFold, Json, Json], bool]]] = {
        "message-start": _started,
        "content-start": _grown,
        "content-delta": _grown,
        "tool-plan-delta": _planned,
        "tool-call-start": _called,
        "tool-call-delta": _called,
        "tool-call-end": _call_ended,
        "citation-start": _cited,
        "message-end": _ended,
    }


def _index(entries: dict[int, Json], event: Json) -> int:
    """Return the index of the entry of an event; of one without, that of the newest entry."""
    index = event.get("index")
    return index if type(index) is int else next(reversed(entries), 0)


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
