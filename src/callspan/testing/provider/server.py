"""The scripted provider: an HTTP server on loopback that speaks the wires of OpenAI and Anthropic."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

from callspan.testing.provider.answer import Answer
from callspan.testing.provider.connection import Server
from callspan.testing.provider.rendering import Rendering, family_of, find_route, render
from callspan.testing.provider.script import (
    DEFAULT_REPLY,
    Json,
    Line,
    Match,
    ReceivedRequest,
    Reply,
    ReplyFields,
    Script,
)

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


class ScriptedProvider:
    """An HTTP server on 127.0.0.1 that answers as OpenAI and Anthropic do, by a script.

    It listens from its construction until `close`. Each reply is used once, in the order scripted; with nothing left,
    the reply is a short default text. Safe from any thread and usable by any number of clients at once, also from async
    code: it runs in threads of its own. Responses can be read again by their id; `GET /models` and counting tokens
    do not use up the script.

    Example:
        >>> with callspan.testing.ScriptedProvider() as provider:
        ...     provider.reply(text="The capital of France is Paris.")
        ...     client = openai.OpenAI(base_url=provider.openai_url, api_key="any")
        ...     answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        >>> answer.choices[0].message.content
        'The capital of France is Paris.'
    """

    def __init__(self) -> None:
        self._script = Script()
        self._requests: list[ReceivedRequest] = []
        self._responses: dict[str, Json] = {}
        self._lock = threading.Lock()
        self._server = Server(self._answer)

    @property
    def url(self) -> str:
        """The base address, without a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def openai_url(self) -> str:
        """`base_url` for the openai SDK."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """`base_url` for the anthropic SDK."""
        return self.url

    @property
    def requests(self) -> list[ReceivedRequest]:
        """All requests so far, in the order in which they arrived; a copy."""
        with self._lock:
            return list(self._requests)

    @property
    def pending(self) -> int:
        """How many scripted replies have not been used; repeating ones do not count."""
        return self._script.pending()

    def reply(
        self,
        reply: Reply | str | None = None,
        /,
        *,
        on: Match | None = None,
        repeat: bool = False,
        **fields: Unpack[ReplyFields],
    ) -> None:
        """Script the next reply: a `Reply`, a text, or the fields of a `Reply`.

        `on` limits it to requests whose path ends so, or that satisfy a predicate; without it, it answers the next
        inference request of either provider. With `repeat` it is not used up and answers whenever no single reply
        does; the newest repeating one wins.
        """
        if reply is not None and fields:
            raise TypeError("give a Reply or a text, or the fields of a reply, not both")
        if isinstance(reply, str):
            reply = Reply(text=reply)
        self._script.add(Line(reply or Reply(**fields), on, repeat))

    def close(self) -> None:
        """Stop: hang up on all clients, end all threads, free the port. Again: nothing.

        Raises what a `responder` or a predicate raised, if one did.
        """
        self._server.stop()
        if failures := self._server.failures:
            failure = failures[0]
            failures.clear()
            raise failure

    def __enter__(self) -> Self:
        """The provider, which is listening already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close; a failure of a responder does not hide an exception of the block."""
        if error is not None:
            self._server.failures.clear()
        self.close()

    def _answer(self, request: ReceivedRequest) -> Rendering:
        """Keep the request and say what it gets."""
        with self._lock:
            self._requests.append(request)
        found, named = find_route(request) or (None, {})
        reply = self._script.take(request, inference=found is not None and found.inference) or DEFAULT_REPLY
        while reply.responder is not None:
            reply = reply.responder(request)
        answer = Answer(request, reply, family_of(request, found).request_id(), named)
        known = self._responses.get(named.get("id", "")) if reply is DEFAULT_REPLY else None
        rendering = render(answer, found, known)
        if rendering.json and rendering.json.get("object") == "response":
            self._responses[str(rendering.json.get("id"))] = rendering.json
        return rendering
