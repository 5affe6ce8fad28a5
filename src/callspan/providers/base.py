"""Base: the protocol of endpoint adapters: plain JSON in, parts of records out, no exceptions on invalid input.

Adapters are total (any JSON gives a result), pure (no clock, no I/O, no SDK), and never keep or change
an object of the caller: strings and numbers may be kept, containers are copied.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import ClassVar, Final, Literal, Protocol, TypeAlias

import msgspec

from callspan.providers.fold.usage_merge import UsageRule
from callspan.providers.wire_json import detached
from callspan.record.apis import APIS
from callspan.record.call import ErrorInfo, Outcome, Request, Response
from callspan.record.codec import encode_json
from callspan.record.messages import Conversation
from callspan.record.usage import Usage

Operation: TypeAlias = Literal[
    "chat", "generate_content", "text_completion", "embeddings", "decisions", "moderation", "rerank",
    "fetch_response",
]  # fmt: skip

NOT_GENERATING: Final = frozenset({"embeddings", "decisions", "moderation", "rerank", "retrieval", "evaluation"})
"""Operations whose answers are no tokens of a model."""
MEDIA_APIS: Final = frozenset(row.name for row in APIS.values() if row.is_media)
"""The APIs of images and sound. Their operation is `generate_content`."""
_MAX_PARAM_BYTES: Final = 4096
_NUMBERS: Final = frozenset({int, float, bool})


class ResponseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A response without its content."""

    response: Response
    """The response without its body."""
    usage: Usage | None = None
    """The provider's counters; None if the body has none."""
    error: ErrorInfo | None = None
    """The error in the body, of a failed response or an error event. `"error": null` is no error."""
    background: bool = False
    """Whether the provider continues after the request has ended, so that other requests fetch the response."""
    outcome: Outcome | None = None
    """For a background response: `in_progress` until it has ended, then its outcome unless it is `success`."""
    continues: str | None = None
    """For a background response: the id of the response that it continues."""
    conversation_id: str | None = None
    """For a background response: the id of its conversation."""
    recognized: bool = True
    """Whether the body has any field of this API."""


NOT_RECOGNIZED: Final = ResponseInfo(response=Response(), recognized=False)
"""The info of an unreadable or missing response."""
NULL_BODY: Final = ResponseInfo(
    response=Response(),
    error=ErrorInfo(kind="unknown", type="null", message="The body of the response is null."),
    recognized=False,
)
"""The info of a response that is `null` in JSON."""


class Accumulator(Protocol):
    """Folds the chunks of a stream into the body the endpoint returns without streaming."""

    usage_rule: ClassVar[UsageRule]
    """How the usage objects of the stream add up."""

    @property
    def complete(self) -> bool:
        """True once the stream has signalled its end (finish reason, terminal event).

        If a terminal event must still follow, as in Messages, `terminated` is whether it was received. `ended`, on
        wires with a last event that says so, is whether nothing follows, not even usage.
        """

    def add(self, chunk: object) -> bool:
        """Fold in one parsed chunk; return True if it carried content (text, reasoning, refusal, tool call).

        Called in the caller's loop: must take constant time and keep references only to strings.
        """

    def body(self) -> dict[str, object] | None:
        """Return the body so far, valid after any prefix of the stream; None if nothing was received.

        It is a new object that shares no containers with the chunks. Incomplete tool calls are marked by
        `"incomplete": true`; an unfinished choice has no finish reason.
        """


class Endpoint(Protocol):
    """One API operation of one provider family: reads its bodies. Stateless; any JSON gives a result."""

    @property
    def api(self) -> str:
        """Name of the API, see `CallRecord.api`: such as `chat_completions`."""

    @property
    def operation(self) -> str:
        """Value of `gen_ai.operation.name`: `chat`, `text_completion`, `embeddings`, ..."""

    def request(self, body: object) -> Request:
        """Return model, stream, parameters, counts of a request, without its body."""

    def accumulator(self) -> Accumulator:
        """Return a fresh accumulator for one stream."""

    def response_info(self, body: object) -> ResponseInfo:
        """Return the info of a complete or folded body."""

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies, typed. Either may be None."""


def parameters(body: Mapping[object, object], content: Container[object]) -> dict[str, object]:
    """Return the parameters of a request without content and large ones, which stay in its body. Null means absent."""
    params: dict[str, object] = {}
    for key, value in body.items():
        if key not in content and value is not None and isinstance(key, str):
            if type(value) in _NUMBERS:
                params[key] = value
            elif _is_small(value):
                params[key] = detached(value)
    return params


def _is_small(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_PARAM_BYTES
    return len(encode_json(value)) <= _MAX_PARAM_BYTES
