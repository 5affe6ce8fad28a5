"""Base: the protocol of an endpoint adapter: plain JSON in, record parts out, no exception on odd input.

Adapters are total (any JSON gives a result), pure (no clock, no I/O, no SDK), and never keep or change
an object of the caller's: strings and numbers may be kept, containers are copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from callspan.record.call import ErrorInfo, Outcome, Request, Response, Usage
from callspan.record.messages import Conversation

Api: TypeAlias = Literal[
    "chat_completions", "responses", "completions", "embeddings", "decisions", "messages", "moderations",
    "vector_store_search", "graders",
]  # fmt: skip
Operation: TypeAlias = Literal[
    "chat", "text_completion", "embeddings", "decisions", "moderation", "retrieval", "evaluation"
]


class ResponseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a response says of itself, in addition to its content."""

    response: Response
    """Without its body."""
    usage: Usage | None = None
    error: ErrorInfo | None = None
    """An error in the body: a failed response, an error event. `"error": null` is none."""
    truncated: bool = False
    """The model stopped at a length limit."""
    refused: bool = False
    """The response is a refusal or was filtered."""
    background: bool = False
    """The provider works on the response without its request: other requests may fetch it."""
    outcome: Outcome | None = None
    """Of a background response: `in_progress` until it has ended, and how it ended where that was no success."""
    compacted: bool = False
    """The conversation was compacted, or parts of it left out, for this response."""
    recognized: bool = True
    """False: nothing in the body belongs to this API; it follows another one, or is not one of any."""


class Accumulator(Protocol):
    """Folds the chunks of a stream into the body the endpoint would have returned in one piece."""

    @property
    def complete(self) -> bool:
        """True once the stream has signalled its end (finish reason, terminal event).

        Where a terminal event must follow all the same, as in Messages, a field `terminated` says whether it came.
        """

    def add(self, chunk: object) -> bool:
        """Fold in one parsed chunk; return True if it carried content (text, reasoning, refusal, tool call).

        O(1) in what came before. Called in the caller's loop: nothing slow, nothing kept but strings.
        """

    def body(self) -> dict[str, object] | None:
        """Return the whole body so far, valid after any prefix; None if nothing came.

        It is a new object that shares no container with the chunks. Tool calls that were cut are marked
        by `"incomplete": true` beside their fields; a choice that was not finished has no finish reason.
        """


class PieceAccumulator(Accumulator, Protocol):
    """An accumulator with a short way for what nearly every chunk of a long stream is."""

    def add_piece(self, chunk: object) -> bool | None:
        """Take a chunk that is but the next piece of what the last one brought; whether it carried content.

        None: it is something else, nothing was taken, and `add_other` must be called. Never raises, whatever it is
        given, since nothing is between it and the caller.
        """

    def add_other(self, chunk: object) -> bool:
        """Do what `add` does with a chunk that `add_piece` has not taken."""


class Endpoint(Protocol):
    """One API operation of one provider family: reads its bodies. Stateless; any JSON gives a result."""

    @property
    def api(self) -> str:
        """Name of the API, as `CallRecord.api` has it: `chat_completions`, or one of your own."""

    @property
    def operation(self) -> str:
        """The operation as `gen_ai.operation.name` has it: `chat`, `text_completion`, `embeddings`, ..."""

    @property
    def path(self) -> str:
        """Suffix of the logical path, such as `/chat/completions`."""

    @property
    def message_key(self) -> str:
        """Key of the request body that holds the growing history (messages, input, prompt)."""

    def request(self, body: object) -> Request:
        """Return model, stream, parameters, counts of a request, without its body."""

    def accumulator(self) -> Accumulator:
        """Return a fresh accumulator for one stream."""

    def response_info(self, body: object) -> ResponseInfo:
        """Return what a body, whole or folded, says of itself."""

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies, typed. Either may be None."""


Endpoints: TypeAlias = Sequence[Endpoint]
