"""Batch exchange: a request about batches: the upload of a file, the creation of a batch, a look-up, the results."""

from __future__ import annotations

from typing import Final, Protocol

from callspan.fail_open import fail_open, reported
from callspan.observe.batch_lines import LineReader, UnknownResults, UploadedLines
from callspan.observe.ending import Ending
from callspan.observe.exchange import Exchange
from callspan.observe.forms import file_in
from callspan.observe.ports import CallSpanHandle, ExchangePorts
from callspan.providers.batches import CREATE, UPLOAD
from callspan.providers.wire_json import text
from callspan.record.call import CallRecord, ErrorInfo, Http
from callspan.record.codec import exact_json

_OBSERVE: Final = fail_open("observe a request about batches")
_SENT: Final = fail_open("read the requests of a batch")
_UPLOAD: Final = fail_open("read a file that is uploaded for a batch")
_PURPOSE: Final = "batch"


class BatchReporter(Protocol):
    """Takes what a request about batches reports. Methods raise only interrupts, and are called again after one."""

    def uploaded(self, lines: UploadedLines, file_id: str) -> None:
        """Take the requests in a file that was uploaded."""

    def created(self, requests: bytes, body: object, error: ErrorInfo | None, end_ns: int, http: Http | None) -> None:
        """Take the body that was sent to create a batch, and its answer; None: it was not created.

        `end_ns` is Unix nanoseconds.
        """

    def found(self, body: object) -> None:
        """Take an answer with one batch, or a list of them."""

    def missed(self) -> None:
        """Note that results were read in a way that is not observed."""


class BatchExchange(Exchange):
    """A request about batches. It has no record of its own; one that creates a batch has a span."""

    __slots__ = ("_operation", "_reporter", "_sent", "_upload", "byte_reader")

    def __init__(
        self, ports: ExchangePorts, record: CallRecord, span: CallSpanHandle, zero_ns: int, reporter: BatchReporter,
        reader: LineReader | UnknownResults | None,
    ) -> None:  # fmt: skip
        """`reader` takes the bytes of results; None: the request is for none."""
        self._operation, self._reporter, self.byte_reader = record.operation, reporter, reader
        self._sent = b""
        self._upload: UploadedLines | None = None
        super().__init__(ports, record, span, zero_ns)

    def sent(self, content: bytes, body: object, body_bytes: int | None = None) -> None:
        """Keep the requests of a batch that is created."""
        del body_bytes
        if self._operation == CREATE and not self._sent:
            try:
                self._sent = exact_json(content, body)
            except reported(_SENT):
                return

    def form(self, fields: object, files: object, size: int | None) -> None:
        """Keep the file of an upload that is about to be sent."""
        del size
        if self._operation == UPLOAD and isinstance(fields, dict) and fields.get("purpose") == _PURPOSE:
            with _UPLOAD:
                self._upload = UploadedLines(file_in(files))

    def _finish(self, ending: Ending) -> None:
        with _OBSERVE:
            self._report(ending, self._body if ending.outcome == "success" and ending.error is None else None)
        self._sent, self._upload, self._body = b"", None, None

    def _report(self, ending: Ending, body: object) -> None:
        """Report the `body` of a successful answer; None: there is none."""
        reporter, file_id = self._reporter, text(body, "id")
        if self.byte_reader is not None:
            self.byte_reader.finish(complete=ending.outcome == "success" and ending.error is None)
            if isinstance(self.byte_reader, LineReader) and self.byte_reader.missed:
                reporter.missed()
        elif self._operation == CREATE:
            end_ns = self.record.timing.start_ns + ending.duration_ns
            reporter.created(self._sent, body, ending.error, end_ns, self.http)
        elif self._upload is not None and file_id is not None:
            reporter.uploaded(self._upload, file_id)
        elif self._operation != UPLOAD and body is not None:
            reporter.found(body)
