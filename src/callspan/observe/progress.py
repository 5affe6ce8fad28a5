"""Progress: the state of a call so far: its attempts, their answers, planned waits, the times of its chunks, its end.

A middleware may send on after an answer: the fallback middleware of the anthropic SDK asks the next model when one
refuses. A refusal is an answer, with usage. Of streams it lists the hops in the final usage (`usage.iterations`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from callspan.background import AtomicFlag
from callspan.fail_open import fail_open, ours, value_of
from callspan.process.processed import Processed
from callspan.process.secrets import masked_error
from callspan.providers import errors, rate_limits
from callspan.providers.base import Endpoint, ResponseInfo
from callspan.providers.wire_json import integer, objects, text
from callspan.record.call import Attempt, CallRecord, ChunkNote, ErrorInfo, Outcome, RateLimits, StreamEnd, Timing
from callspan.record.messages import Conversation
from callspan.record.usage import Usage, usage_of_hop, with_added

TOO_MANY_REQUESTS: Final = 429
_FIRST_ERROR: Final = 400
_MAX_BODY_BYTES: Final = 64 << 10
_BROKEN: Final = ("connection", "timeout")
_READ: Final = fail_open("read the answer of an attempt")
_LISTED: Final = ("message", "fallback_message")


class _Open(msgspec.Struct, eq=False):
    """A running attempt: plain fields, converted to an `Attempt` at the end of the call."""

    start_ns: int
    headers_ns: int | None = None
    end_ns: int | None = None
    status: int | None = None
    headers: Mapping[str, str] = {}
    body: Callable[[], bytes] | None = None
    exception: str | None = None
    planned_wait_s: float | None = None
    answer: object = None
    """The body of an answer after which a middleware sent on."""


class AttemptLog(msgspec.Struct, eq=False):
    """Collects the attempts of one call. Used by the sending thread or task; read at the end.

    Offsets are nanoseconds since the start of the call.
    """

    sdk_retries: int | None = None
    """The SDK's own number of retries; None if unknown."""
    _attempts: list[_Open] = []
    _rate_limited: bool = False
    has_answers: bool = False
    """Whether a middleware sent on after an answer."""

    def started(self, offset_ns: int) -> None:
        """Record that a request is about to be sent."""
        self._attempts.append(_Open(offset_ns))

    def headers_received(
        self, offset_ns: int, status: int, headers: Mapping[str, str], body: Callable[[], bytes] | None = None
    ) -> None:
        """Record the response headers (names in lower case) of the last request.

        `body` returns the body of an error response after it was read; called at the end of the call, may raise.
        """
        if self._attempts:
            last = self._attempts[-1]
            last.headers_ns, last.status, last.headers = offset_ns, status, headers
            if status >= _FIRST_ERROR:
                last.end_ns, last.body = offset_ns, body
                self._rate_limited = self._rate_limited or status == TOO_MANY_REQUESTS

    def failed(self, offset_ns: int, exception: str) -> None:
        """Record that the last request raised an exception of this class."""
        if self._attempts:
            self._attempts[-1].end_ns, self._attempts[-1].exception = offset_ns, exception

    def responded(self, body: object) -> None:
        """Record the body of an earlier answer of this call, after which a middleware sent another request.

        None: it was not read.
        """
        if not isinstance(body, dict):
            return
        for attempt in reversed(self._attempts[:-1]):
            if attempt.status is not None and attempt.status < _FIRST_ERROR and attempt.answer is None:
                attempt.answer, self.has_answers = body, True
                return

    def answers(self) -> list[object]:
        """Return for each attempt the body that `responded` was given, else None."""
        return [attempt.answer for attempt in self._attempts]

    def will_wait(self, seconds: float) -> None:
        """Record the wait the SDK decided on before the next request."""
        if self._attempts:
            self._attempts[-1].planned_wait_s = seconds

    def sent_retries(self, text: str | None) -> None:
        """Record the retry count in the last request's headers, which the application may have set itself."""
        if text is not None and text.isdecimal() and int(text) < len(self._attempts):
            self.sdk_retries = int(text)

    def totals(self) -> tuple[int | None, bool | None]:
        """Return the number of retries, by the SDK's own count or as observed, and whether any attempt got a 429.

        None where nothing was observed.
        """
        if not self._attempts:
            return self.sdk_retries, None
        return len(self._attempts) - 1 if self.sdk_retries is None else self.sdk_retries, self._rate_limited

    def records(self, now_s: float, end_ns: int, error: ErrorInfo | None = None) -> list[Attempt]:
        """Return the attempts as records of a call that ended at the offset `end_ns`, perhaps with an error.

        `now_s` (Unix) converts reset times to seconds. Bodies of errors are read now and released. A connection error
        while the response was read is a failure of the attempt that got it.
        """
        records: list[Attempt] = []
        for number, attempt in enumerate(self._attempts, start=1):
            after = self._attempts[number] if number < len(self._attempts) else None
            records.append(_record(number, attempt, after, now_s, end_ns))
        if records and error is not None and error.kind in _BROKEN and records[-1].error_kind is None:
            records[-1] = msgspec.structs.replace(records[-1], error_kind=error.kind, error_type=error.type)
        return records


def last_limits(attempts: list[Attempt]) -> RateLimits | None:
    """Return the rate limits of the last response that has any."""
    for attempt in reversed(attempts):
        if attempt.rate_limits is not None:
            return attempt.rate_limits
    return None


def _record(number: int, attempt: _Open, after: _Open | None, now_s: float, call_end_ns: int) -> Attempt:
    headers, end_ns = attempt.headers, attempt.end_ns
    failed = attempt.exception is not None or (attempt.status or 0) >= _FIRST_ERROR
    error = _error(attempt) if failed else None
    if end_ns is None:
        end_ns = call_end_ns if after is None else attempt.headers_ns
    return Attempt(
        number=number,
        start_ns=attempt.start_ns,
        headers_ns=attempt.headers_ns,
        end_ns=end_ns,
        status=attempt.status,
        error_kind=error and error[0],
        error_type=error and error[1],
        request_id=rate_limits.request_id(headers) if headers else None,
        retry_after_s=rate_limits.retry_after_s(headers, now_s) if error and headers else None,
        planned_wait_s=attempt.planned_wait_s,
        wait_s=None if after is None or end_ns is None else (after.start_ns - end_ns) / 1e9,
        rate_limits=rate_limits.rate_limits(headers, now_s) if headers else None,
    )


def _error(attempt: _Open) -> tuple[str, str]:
    """Return callspan's error kind and the `error.type` of a failed attempt."""
    if attempt.exception is not None:
        return errors.classify(attempt.status, None, None, None, attempt.exception)[0], attempt.exception
    content = value_of(attempt.body) if attempt.body is not None else None
    attempt.body = None
    info = masked_error(
        errors.error_info(status=attempt.status, body=_json(content), exception=None, message=None, request_id=None)
    )
    return info.kind, info.type


def _json(content: bytes | None) -> object:
    if not content or len(content) > _MAX_BODY_BYTES:
        return None
    try:
        return msgspec.json.decode(content)
    except ours(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


_PIECES: Final = 256


class ChunkTiming:
    """Number and times of chunks, in monotonic nanoseconds; constant size for streams of any length.

    Written by the call: each chunk sets `last_ns` and subtracts 1 from `pieces_left`.
    """

    # No msgspec struct: setting a field of one takes ten times as long.
    __slots__ = ("_chunks", "content_ns", "first_ns", "gap_ns", "last_ns", "pieces_left")

    def __init__(self) -> None:
        self._chunks = 1
        self.pieces_left = 1
        """0 or less: the text so far is to be compacted, so that `add` gets the chunk even if it is a piece.

        Less after an interrupt: it may come between the count and the chunk.
        """
        self.first_ns: int | None = None
        self.content_ns: int | None = None
        """Time of the first chunk with content."""
        self.last_ns: int | None = None
        self.gap_ns = -1
        """The longest time between two chunks; -1 before there are two."""

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return self._chunks - self.pieces_left

    def expect_pieces(self) -> None:
        """Start counting down again."""
        self._chunks, self.pieces_left = self.chunks + _PIECES, _PIECES

    def timing(self, start_ns: int, zero_ns: int, duration_ns: int, attempts: AttemptLog) -> Timing:
        """Return the times of a call that began at `start_ns` (Unix) and `zero_ns` (monotonic)."""
        first_ns, content_ns, last_ns = self.first_ns, self.content_ns, self.last_ns
        sent = attempts._attempts  # plain methods: on every call a property would cost more than its work
        last = sent[-1] if sent else None
        headers = None if last is None else last.headers
        header = None if headers is None else headers.get(rate_limits.SERVER_TIME)
        return Timing(
            start_ns=start_ns,
            duration_ns=duration_ns,
            answer_ns=None if last is None or last.status is None else last.start_ns,
            headers_ns=None if last is None else last.headers_ns,
            server_ns=None if header is None else rate_limits.server_ns(header),
            first_chunk_ns=None if first_ns is None else first_ns - zero_ns,
            first_token_ns=None if content_ns is None else content_ns - zero_ns,
            last_chunk_ns=None if last_ns is None else last_ns - zero_ns,
            largest_gap_ns=None if self.gap_ns < 0 else self.gap_ns,
        )


class ChunkLog:
    """Wraps an accumulator's `add` and records the first chunks, up to a limit. Not thread-safe."""

    def __init__(self, limit: int, add: Callable[[object], bool], timing: ChunkTiming, zero_ns: int) -> None:
        """`zero_ns` is the start of the call; `timing` has the arrival time of the chunk being added."""
        self.notes: list[ChunkNote] = []
        self._limit = limit
        self._add = add
        self._timing = timing
        self._zero_ns = zero_ns

    def add(self, chunk: object) -> bool:
        """Add the chunk; return True if it carried content."""
        content = self._add(chunk)
        if len(self.notes) < self._limit:
            last_ns = self._timing.last_ns
            offset_ns = 0 if last_ns is None else last_ns - self._zero_ns
            note = ChunkNote(offset_ns=offset_ns, event=text(chunk, "type"), choice=_choice(chunk), content=content)
            self.notes.append(note)
        return content


def _choice(chunk: object) -> int | None:
    """Return the index of a chunk's choice (chat), output item (Responses) or content block (Messages)."""
    indexes = (
        integer(next(objects(chunk, "choices"), None), "index"),
        integer(chunk, "output_index"),
        integer(chunk, "index"),
    )
    return next((index for index in indexes if index is not None), None)


_TRIES: Final = 3
"""Number of interrupts after which an interrupted step is skipped."""


class Ending(msgspec.Struct, eq=False):
    """The accepted end of one call: what was reported, the results so far, and the next step."""

    how: StreamEnd | None
    outcome: Outcome
    error: ErrorInfo | None
    duration_ns: int
    body: object = None
    """The body of the response as plain JSON; None if nothing was received, or after it was released."""
    record: CallRecord | None = None
    """The record as it was built, of a request that is no call."""
    processed: Processed[CallRecord] | None = None
    conversation: Conversation | None = None
    step: int = 0
    """The next step of `LiveCall`; an interrupted step is repeated unless it has advanced this itself."""
    interrupted: AtomicFlag = msgspec.field(default_factory=AtomicFlag)
    """True while the remaining steps still have to be run."""
    _interrupts: int = 0

    def interrupt(self) -> None:
        """Leave the remaining steps to the next call of `end`."""
        self._interrupts += 1
        if self._interrupts > _TRIES:
            # A callback of the application may raise `SystemExit` each time.
            self.step += 1
        self.interrupted.set()

    def take_over(self) -> bool:
        """Return True to one caller of several, which then runs the remaining steps of an interrupted end."""
        return self.interrupted.test_and_clear()


def no_piece(data: object) -> int:
    """Take nothing, for accumulators without `add_piece`."""
    del data
    return 0


def bodies(record: CallRecord) -> tuple[int, int]:
    """Return the identities of a record's bodies, to detect that a processor has changed them."""
    return id(record.request.body), id(record.response.body if record.response is not None else None)


def usage_by_attempt(
    endpoint: Endpoint, log: AttemptLog, attempts: list[Attempt], usage: Usage | None, info: ResponseInfo
) -> tuple[Usage | None, list[Attempt]]:
    """Return the usage of all attempts, and the attempts with model, outcome and usage of their own.

    `log` has the earlier answers of a plain call; `usage` and `info` are of the last one.
    """
    answers = log.answers()
    if not log.has_answers:
        return _of_stream(attempts, usage, info)
    found = [None if answer is None else _info(endpoint, answer) for answer in answers]
    found[-1] = info
    described = [
        _described(one, of_one, usage if of_one is info else None) for one, of_one in zip(attempts, found, strict=True)
    ]
    used = [one.usage for one in described if one.usage is not None]
    if usage is not None:
        return with_added(usage, used[:-1]), described
    return (with_added(Usage(), used) if used else None), described


def _info(endpoint: Endpoint, answer: object) -> ResponseInfo | None:
    with _READ:
        return endpoint.response_info(answer)
    return None


def _described(one: Attempt, info: ResponseInfo | None, usage: Usage | None) -> Attempt:
    if info is None or (one.status or _FIRST_ERROR) >= _FIRST_ERROR:
        return one
    return msgspec.structs.replace(
        one,
        model=info.response.model,
        outcome="refused" if info.refused else "success",
        usage=_without_raw(usage or info.usage),
    )


def _of_stream(attempts: list[Attempt], usage: Usage | None, info: ResponseInfo) -> tuple[Usage | None, list[Attempt]]:
    """Return the hops of a stream as attempts if there is one per answer; else the attempts unchanged."""
    listed = [] if usage is None else [hop for hop in usage.hops if hop.kind in _LISTED]
    successful = [at for at, one in enumerate(attempts) if (one.status or _FIRST_ERROR) < _FIRST_ERROR]
    if usage is None or len(listed) != len(successful) or len(listed) < len(("refused", "served")):
        return usage, attempts
    described = list(attempts)
    for at, hop in zip(successful, listed, strict=True):
        refused = info.refused if hop is listed[-1] else True
        described[at] = msgspec.structs.replace(
            described[at], model=hop.model, outcome="refused" if refused else "success", usage=usage_of_hop(hop)
        )
    return msgspec.structs.replace(usage, hops=[hop for hop in usage.hops if hop not in listed]), described


def _without_raw(usage: Usage | None) -> Usage | None:
    return None if usage is None else msgspec.structs.replace(usage, raw=None)
