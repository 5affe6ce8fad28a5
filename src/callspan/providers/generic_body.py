"""Generic body: reads the usage of an answer on a path without an adapter, in the form of either provider. Total."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from callspan.providers.anthropic.messages import usage as messages_usage
from callspan.providers.base import NOT_GENERATING, Operation, ResponseInfo
from callspan.providers.fold.last import LastBody
from callspan.providers.openai.base import unix_time
from callspan.providers.openai.usage import of_input_only, stated_counts, usage_of
from callspan.providers.tool_runs import requested_kinds
from callspan.providers.wire_json import flag, items, mapping, word
from callspan.record.call import Request, Response
from callspan.record.messages import Conversation

_RUNNING: Final = frozenset(
    ("batch", "conversation", "dream", "eval", "invocation", "job", "run", "session", "task", "thread", "turn")
)
"""Objects with a running total, by `object` or `type`; some by the last words of a path."""
_OF_ONE_ANSWER: Final = "response"
"""As in Mistral's `conversation.response`, which has the usage of one answer."""
_RUNNING_PATHS: Final = frozenset(("batches", "conversations", "jobs", "runs", "sessions", "threads"))
_INPUT_ONLY: Final[Mapping[str, Operation]] = {"embed": "embeddings", "rerank": "rerank"}
"""Operations without output by words in their paths. Some servers state only their total."""
_WORDS: Final = re.compile(r"[a-z]+")
_CACHE: Final = ("cache_creation_input_tokens", "cache_read_input_tokens")
"""Counters that Anthropic's `input_tokens` excludes."""


def stating_usage(body: object) -> dict[str, object] | None:
    """Return the object with `usage` in an answer or event: the object itself or its `response`; else None."""
    for candidate in (mapping(body), mapping(body, "response")):
        if candidate is not None and stated_counts(candidate):
            return candidate
    return None


def has_running_total(path: str, body: object) -> bool:
    """Return whether the usage of an answer is a running total, which later answers state again."""
    kinds = set(_WORDS.findall(word(body, "object") or word(body, "type") or ""))
    if _OF_ONE_ANSWER in kinds:
        return False
    return bool(_RUNNING & kinds or _RUNNING_PATHS & set(path.split("/")[-2:]))


class GenericBody:
    """An API without an adapter: only model and usage are read; the bodies are kept unchanged."""

    operation: Operation = "generate_content"

    def __init__(self, api: str) -> None:
        """`api` is the path without ids."""
        self.api = api
        self.operation = next((_INPUT_ONLY[part] for part in _INPUT_ONLY if part in api), self.operation)

    def request(self, body: object) -> Request:
        """Return the model. Other fields may be content."""
        return Request(
            model=word(body, "model"),
            stream=flag(body, "stream") is True,
            hosted_tools=requested_kinds(items(body, "tools")),
        )

    def accumulator(self) -> LastBody:
        """Return an accumulator that keeps the last event with usage."""
        return LastBody(stating_usage)

    def response_info(self, body: object) -> ResponseInfo:
        """Return id, model, time and usage."""
        holder = stating_usage(body) or mapping(body) or {}
        counters = stated_counts(holder)
        is_messages = (
            counters is not None and any(name in counters for name in _CACHE) and "prompt_tokens" not in counters
        )
        usage = messages_usage(counters) if is_messages else usage_of(holder)
        if self.operation in NOT_GENERATING:
            usage = of_input_only(usage)
        created = unix_time(holder, "created", "created_at")
        return ResponseInfo(
            response=Response(id=word(holder, "id"), model=word(holder, "model"), created=created), usage=usage
        )

    def conversation(self, *_: object) -> Conversation:
        """Return no messages, because their place is unknown."""
        return Conversation()
