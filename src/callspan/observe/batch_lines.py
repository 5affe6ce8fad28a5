"""Batch lines: reads the results of a batch line by line, as their reader gets them; makes the records of the lines.

The reader's thread only keeps the pieces. Where it is far ahead, it reads lines itself, so that memory is bounded.
The id of a line's call is made of those of the batch and of the line: every process that sees the line writes versions
of the same record, of its request when the batch is created, and of its answer when the results are read.
"""

from __future__ import annotations

import io
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final
from weakref import WeakSet

import msgspec

from callspan.background import AtomicFlag, Worker
from callspan.fail_open import fail_open, ours, reported
from callspan.observe.background_responses import IN_PROGRESS, version_of
from callspan.providers import registry
from callspan.providers.base import NOT_RECOGNIZED, Endpoint, ResponseInfo
from callspan.providers.batches import BatchInfo, RequestLine, ResultLine, endpoint_of
from callspan.providers.wire_json import unix_ns
from callspan.record.call import Attempt, CallRecord, Request, Response, Timing
from callspan.record.codec import encode_json, exact_json, is_json
from callspan.record.ids import batch_call_id, batch_line_id

BLOCK_BYTES: Final = 1 << 16
_MOST_WAITING: Final = 64 << 20
"""Bytes that may wait for the thread, of all readings together, before a reader reads its lines itself."""
_MANY_WAITING: Final = _MOST_WAITING * 3 // 4
"""Bytes from which on the thread no longer gives way to the readers."""
_PAUSE_S: Final = 0.00005
_HEAD_BYTES: Final = 1 << 12
_MARKS: Final = (b'"custom_id"', b'"batch_req_')
"""What the first line of OpenAI's results has."""
_LINE: Final = fail_open("read a line of a batch")
LINES: Final = Worker("callspan-batches", at_exit_s=30.0)
"""The thread."""
submit: Final = LINES.put
"""Queues work for the thread; at the latest it is done when the process ends."""
_BLOCK_BYTES: Final = 1 << 18
_READ_REQUEST: Final = fail_open("read a request of a batch")
_READ_ANSWER: Final = fail_open("read an answer of a batch")
_MESSAGES: Final = "/v1/messages"


class Seen(msgspec.Struct, eq=False):
    """The number of bytes of a results file that this process has read; shared by all its readers."""

    end: int = 0


class LineReader:
    """Receives the bytes of one read of the results. Its methods raise only interrupts."""

    __slots__ = (
        "__weakref__",
        "_at",
        "_done",
        "_finished",
        "_handed",
        "_held",
        "_last_ns",
        "_next",
        "_over",
        "_read",
        "_seen",
        "_size",
        "_unsettled",
        "_waiting",
        "missed",
    )

    def __init__(
        self, seen: Seen, read: Callable[[bytes], str | None], over: Callable[[Counter[str], bool, int], object]
    ) -> None:
        """`read` parses a line and returns the outcome of its request; None: not a line of a batch.

        `over` is called once, after the last line, with the number of lines by their ends, whether all were read, and
        the Unix nanoseconds when the last of them was.
        """
        self._seen = seen
        self._read, self._over = read, over
        self.missed = False
        """The caller has read the bytes as they were sent (`iter_raw`): there is no record of them."""
        self._held: list[bytes] = []
        self._size, self._next, self._at = 0, BLOCK_BYTES, 0
        self._handed = self._last_ns = 0
        self._done: dict[int, Counter[str]] = {}
        self._waiting: dict[int, int] = {}
        """The sizes of what was queued and not read yet."""
        self._finished: bool | None = None
        self._unsettled = AtomicFlag(is_set=True)

    def add(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._last_ns = time.time_ns()
        self._held.append(piece)
        self._size += len(piece)
        if self._size >= self._next:
            self._take_lines()

    def read_elsewhere(self) -> None:
        """Note that the bytes were read without this reader, unless some came here."""
        self.missed = not (self._size or self._at)

    def whole(self, content: bytes) -> None:
        """Take the complete results, which are in memory."""
        start = 0
        while start < len(content):
            end = content.find(b"\n", start + BLOCK_BYTES) + 1 or len(content)
            self._queue(content, start, end, start, bounded=False)
            start = end
        self.finish(complete=True)

    def finish(self, *, complete: bool) -> None:
        """Report the end of the bytes; `complete` False: the reader stopped early, possibly within a line."""
        if self._finished is None:
            self._take_lines(last=complete or is_json(b"".join(self._held)))
            self._last_ns = time.time_ns() if complete or not self._last_ns else self._last_ns
            self._finished = complete
            submit(self._settle)

    def _take_lines(self, *, last: bool = False) -> None:
        data = b"".join(self._held)
        end = len(data) if last else data.rfind(b"\n") + 1
        self._held, self._size = [data[end:]], len(data) - end
        # A line that is longer than a block is not joined again for every piece.
        self._next = max(BLOCK_BYTES, 2 * self._size)
        if end:
            self._queue(data, 0, end, self._at)
            self._at += end

    def _queue(self, data: bytes, start: int, end: int, place: int, *, bounded: bool = True) -> None:
        """Queue the lines from `start` to `end` that were not read yet; `place` is the offset of `start` in the file.

        `bounded`: this thread reads them where too many wait for the other one.
        """
        known, over = max(0, self._seen.end - place), place + end - start
        start += known
        if start >= end:
            return
        number = self._handed + 1
        work = partial(self._work, _Block(data, start, end), number)
        self._hand(number, end - start, over)
        if bounded and _waiting_bytes() > _MOST_WAITING:
            work()
        else:
            submit(work)

    def _hand(self, number: int, size: int, over: int) -> None:
        self._handed = number
        self._waiting[number] = size
        _READING.add(self)
        self._seen.end = max(self._seen.end, over)

    def _work(self, block: _Block, number: int) -> None:
        # The reader waits for each line that is read in the meantime; without pauses for milliseconds, each time.
        gives_way = self._finished is None and _waiting_bytes() < _MANY_WAITING
        lines = block.lines()
        while lines:
            if lines[-1].strip():
                with _LINE:
                    outcome = self._read(lines[-1])
                    if outcome is not None:
                        block.counts[outcome] += 1
                if gives_way:
                    time.sleep(_PAUSE_S)  # another thread may take the interpreter's lock
                    gives_way = self._finished is None
            lines.pop()
        self._done[number] = block.counts
        self._waiting.pop(number, None)
        self._settle()

    def _settle(self) -> None:
        if self._finished is not None and len(self._done) == self._handed and self._unsettled.test_and_clear():
            self._over(sum(self._done.values(), Counter()), self._finished, self._last_ns)


class _Block:
    """Lines to be read. One that is read leaves it, so that work which was interrupted goes on where it was."""

    __slots__ = ("_bytes", "_lines", "counts")

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._bytes = data, start, end
        self._lines: list[bytes] | None = None
        self.counts: Counter[str] = Counter()

    def lines(self) -> list[bytes]:
        """Return the lines that are left, the next one last."""
        if self._lines is None:
            data, start, end = self._bytes
            self._lines = data[start:end].split(b"\n")[::-1]
        return self._lines


_READING: Final[WeakSet[LineReader]] = WeakSet()
"""The readings of which something was queued."""


def _waiting_bytes() -> int:
    # Of what has a length `list` asks for it first, and swallows a TypeError that a signal handler raises there.
    return sum(size for reading in list(iter(_READING)) for size in list(reading._waiting.values()))


class UnknownResults:
    """Replaces a `LineReader` for a file of an unknown batch, and detects whether the file has results of one."""

    __slots__ = ("_found", "_head")

    def __init__(self, found: Callable[[], object]) -> None:
        """`found` is called once, if the file has results of a batch."""
        self._found = found
        self._head: bytes | None = b""

    def add(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self._head is not None:
            self._head += piece
            if len(self._head) >= _HEAD_BYTES:
                self._look()

    def whole(self, content: bytes) -> None:
        """Take the complete file."""
        self.add(content[:_HEAD_BYTES])
        self._look()

    def read_elsewhere(self) -> None:
        """Do nothing: whether the file has results is unknown."""

    def finish(self, *, complete: bool) -> None:
        """Report that no more bytes follow."""
        del complete
        self._look()

    def _look(self) -> None:
        head, self._head = self._head, None
        if head is not None and all(mark in head for mark in _MARKS):
            self._found()


class UploadedLines:
    """The lines of an in-memory or open file. May be read again until `close`."""

    __slots__ = ("_content", "_descriptor", "size")

    def __init__(self, file: object) -> None:
        """`file` is a file as httpx takes it: its content, or a tuple of name, content and more.

        Raises TypeError for content that only the HTTP library can read.
        """
        content: Any = file[1] if isinstance(file, tuple) and len(file) > 1 else file
        self._content, self._descriptor = b"", -1
        if isinstance(content, bytes | bytearray):
            self._content = bytes(content)
            self.size = len(content)
        elif type(content) is io.BytesIO:
            self._content = content.getvalue()
            self.size = len(self._content)
        else:
            if not isinstance(content, io.IOBase):
                raise TypeError("cannot be read beside the HTTP library")
            # Duplicated: the application may close its file before this one is read.
            self._descriptor = os.dup(content.fileno())
            self.size = os.fstat(self._descriptor).st_size

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines that are not empty."""
        rest = b""
        for block in self._blocks():
            *lines, rest = (rest + block).split(b"\n")
            yield from (line for line in lines if line.strip())
        if rest.strip():
            yield rest

    def _blocks(self) -> Iterator[bytes]:
        if self._descriptor < 0:
            yield from (self._content[at : at + _BLOCK_BYTES] for at in range(0, len(self._content), _BLOCK_BYTES))
            return
        at = 0
        while block := os.pread(self._descriptor, _BLOCK_BYTES, at):
            at += len(block)
            yield block

    def close(self) -> None:
        """Close its own descriptor. May be repeated."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        try:
            self.close()
        except ours(OSError, AttributeError):
            return


def requested(base: CallRecord, line: RequestLine) -> CallRecord:
    """Return the version of a line's record with its request; `base` is the record of the request that created it.

    Its id is that of the line: no processor can change it, as it can the application's. For the batch see `of_batch`.
    """
    url = line.url or _MESSAGES
    endpoint, request = endpoint_of(url, None), Request()
    try:
        body = registry.decoded(line.body)
        exact = exact_json(line.body, body)
        if endpoint is not None:
            request = endpoint.request(body)
        request = msgspec.structs.replace(request, body=msgspec.Raw(exact), body_bytes=len(line.body), stream=False)
    except reported(_READ_REQUEST):
        request = Request()
    return msgspec.structs.replace(
        base,
        call_id=batch_line_id(line.custom_id or ""),
        part="requested",
        seen_in="batch",
        api="unknown" if endpoint is None else endpoint.api,
        operation="chat" if endpoint is None else endpoint.operation,
        custom_id=line.custom_id,
        request=request,
        response=None,
        usage=None,
        attempts=[],
        retries=None,
        rate_limits=None,
        rate_limited=None,
        stream=None,
        timing=Timing(start_ns=base.timing.start_ns),
        outcome=IN_PROGRESS,
    )


def of_batch(record: CallRecord, provider: str, batch_id: str, **fields: Any) -> CallRecord:  # noqa: ANN401 - any fields
    """Return the record of a line with the ids of the batch and of its call, still to be processed.

    `provider` is the provider as observed: a redactor may have changed that of a line.
    """
    call_id = batch_call_id(provider, batch_id, record.call_id)
    return msgspec.structs.replace(record, call_id=call_id, provider=provider, batch_id=batch_id, **fields)


def answered(reading: CallRecord, batch: BatchInfo, line: ResultLine) -> CallRecord:
    """Return the version of a line's record with its answer; `reading` is the record of the request for the results.

    The duration of a line is unknown: providers do not give it.
    """
    endpoint = endpoint_of(batch.url, line.body)
    info = _info(endpoint, line)
    response = _response(line, info)
    start_ns = batch.created_ns or unix_ns(info.response.created) or reading.timing.start_ns
    error = line.error or info.error
    outcome = "error" if line.outcome == "success" and error is not None else line.outcome
    attempts = [Attempt(number=1, start_ns=0, status=line.status, request_id=line.request_id)]
    return version_of(
        reading,
        call_id=batch_call_id(reading.provider, batch.id, batch_line_id(line.custom_id)),
        part="answered",
        seen_in="batch",
        seen_ns=reading.timing.start_ns,
        api="unknown" if endpoint is None else endpoint.api,
        operation="chat" if endpoint is None else endpoint.operation,
        batch_id=batch.id,
        custom_id=line.custom_id,
        response=response,
        usage=info.usage,
        timing=Timing(start_ns=start_ns),
        attempts=attempts if line.status is not None or line.request_id is not None else [],
        outcome=outcome,
        error=error,
    )


def _info(endpoint: Endpoint | None, line: ResultLine) -> ResponseInfo:
    if endpoint is None or line.body is None:
        return NOT_RECOGNIZED
    try:
        return endpoint.response_info(line.body)
    except reported(_READ_ANSWER):
        return NOT_RECOGNIZED


def _response(line: ResultLine, info: ResponseInfo) -> Response | None:
    if line.body is None:
        return None
    body = encode_json(line.body)
    return msgspec.structs.replace(
        info.response, truncated=info.truncated, refused=info.refused, compacted=info.compacted,
        unrecognized=not info.recognized, body_bytes=len(body), body=msgspec.Raw(body),
    )  # fmt: skip
