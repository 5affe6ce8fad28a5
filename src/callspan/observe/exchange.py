"""Exchange: one observed request, from its start to its first end. Interception reports events to it.

The events are `sent` (the body as sent) or `form`, attempts, `data` (a complete body or one chunk, parsed) or bytes,
and the end, which may be reported several times: the first wins. Each kind of request is a class: calls
(`live_call`), and those that report on calls that run elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from callspan.observe.attempts import AttemptLog
from callspan.observe.ending import Ending
from callspan.observe.ports import CallInfo, CallSpanHandle, ExchangePorts
from callspan.record.call import CallRecord, ErrorInfo, Outcome, Place, Request, StreamEnd, Timing

NOWHERE: Final = Place()


class ByteReader(Protocol):
    """Takes the bytes of a response. Methods raise only interrupts."""

    def add(self, piece: bytes) -> None:
        """Take the next bytes."""

    def whole(self, content: bytes) -> None:
        """Take all bytes, which are in memory."""

    def read_elsewhere(self) -> None:
        """Note that the response was read without this reader, unless some bytes came here."""

    def finish(self, *, complete: bool) -> None:
        """Report the end of the bytes; `complete` False: reading has stopped early."""


class Exchange:
    """One observed request. Its methods raise nothing but interrupts.

    Events come from one thread or task at a time, like those of the SDK; `end` may be called from any. An end that an
    interrupt cuts off runs once more, from its start, on another thread.
    """

    __slots__ = (
        "__weakref__", "_body", "_complete", "_endings", "_now_ns", "_ports", "_zero_ns", "attempts", "has_body",
        "named", "record", "span", "streaming",
    )  # fmt: skip

    byte_reader: ByteReader | None = None
    """Takes the bytes of the response; None: the response is parsed."""
    _ports: ExchangePorts

    def __init__(self, ports: ExchangePorts, record: CallRecord, span: CallSpanHandle, zero_ns: int) -> None:
        """Called by a subclass when its own fields are set: from here on the exchange has begun."""
        self._ports = ports
        self._zero_ns = zero_ns
        self._now_ns = ports.clock.monotonic_ns
        self.record = record
        """The record as of the start, before the span existed; the final record is not stored here."""
        self.named = [record.call_id]
        """The id of its record; empty until the first event of a background response has the one that it is made of."""
        self.span = span
        self.streaming = record.request.stream is True
        self.attempts = AttemptLog()
        self._body: object = None
        self.has_body = False
        """True once the complete body of a plain response was received."""
        self._complete = False
        # list.append is atomic, so the first item is the accepted end, without a lock.
        self._endings: list[Ending] = []

    @property
    def data(self) -> Callable[[object], None]:
        """The function that takes received JSON: each chunk of a stream, or the body of a plain response."""
        return self.chunk if self.streaming else self.whole

    @property
    def ended(self) -> bool:
        """True once the exchange has ended, or is being ended."""
        return bool(self._endings)

    @property
    def chunks(self) -> int:
        """Number of received chunks of a stream."""
        return 0

    @property
    def stream_complete(self) -> bool:
        """True once the stream has signalled its end."""
        return self._complete

    def offset_ns(self) -> int:
        """Return the monotonic time since the start."""
        return self._now_ns() - self._zero_ns

    def sent(self, content: bytes, body: object, body_bytes: int | None = None) -> None:
        """Take the request as sent: its exact bytes, and the same as plain JSON. Only the first one counts.

        `body_bytes`: size as sent, if not that of `content`; 0: unknown.
        """

    def form(self, fields: object, files: object, size: int | None) -> None:
        """Take the fields and files of a form that is about to be sent, and its size; None: unknown."""

    def whole(self, body: object) -> None:
        """Take the complete body of a plain response."""
        if not self._endings:
            self._body, self.has_body = body, True

    def chunk(self, data: object) -> None:
        """Take one chunk of a stream."""

    def signalled_end(self) -> None:
        """Record the terminal `[DONE]` of a stream, which is not a chunk."""
        self._complete = True

    def mark_partially_observed(self) -> None:
        """Record that a part of the stream was not observed: whether it signalled its end is unknown."""

    def forget_response(self) -> None:
        """Discard the data of a response that was replaced by another one."""
        self._complete, self._body, self.has_body = False, None, False

    def end(
        self, *, how: StreamEnd | None = "complete", outcome: Outcome = "success", error: ErrorInfo | None = None,
        at_ns: int | None = None,
    ) -> None:  # fmt: skip
        """End the exchange. Only the first end counts.

        `how` None: there was no stream, or the request failed before its response.
        `at_ns` is the offset of the end when it is reported later than it happened.
        """
        endings = self._endings
        if endings:
            return
        ending = Ending(how, outcome, error, self._now_ns() - self._zero_ns if at_ns is None else at_ns)
        try:
            endings.append(ending)
            if endings[0] is ending:
                self._finish(ending)
        except BaseException:
            # Not here: it may call the application, which has a time limit.
            if endings[:1] == [ending]:
                self._ports.run_again(partial(self._finish_again, ending))
            raise

    def _finish_again(self, ending: Ending) -> None:
        """Do all that an interrupted end does."""
        self._finish(ending)

    def _finish(self, ending: Ending) -> None:
        """Do all that the end does."""
        raise NotImplementedError

    def __del__(self) -> None:
        """End an exchange that was interrupted before anything else could report its end."""
        try:
            endings = self._endings
        except AttributeError:
            return  # it never began
        if not endings:
            self._ports.submit_end(self)


def started(
    ports: ExchangePorts, info: CallInfo, api: str, operation: str, start_ns: int, call_id: str = "",
    place: Place = NOWHERE,
) -> CallRecord:  # fmt: skip
    """Return the record of a request that starts at `start_ns`."""
    if ports.forked:
        ports.on_first_call_after_fork()
    # More than fifteen keywords in one call go through a dictionary, which takes five times as long.
    return CallRecord(
        call_id=call_id,
        part="started",
        outcome="started",
        provider=info.provider,
        api=api,
        operation=operation,
        sdk=info.sdk,
        server_address=info.server_address,
        server_port=info.server_port,
        place=place,
        service=ports.service,
        host=ports.host,
        pid=os.getpid(),
        request=Request(model=info.model, stream=info.stream),
        timing=Timing(start_ns=start_ns),
    )
