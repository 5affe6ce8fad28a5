"""Processors: the steps that every record passes, in order, before it is exported or stored.

They run on the caller's thread, for calls, sessions, timesteps, events, messages and rewards alike:

| Processor | Applies to | Reason for its position |
| --- | --- | --- |
| values | all records | first: the others can traverse any value of the application |
| secrets | all records | before any code that may expose the record: the application's functions never see a key |
| media | calls, events, messages | before the redactor, which then need not search base64 |
| redactor | all records | the application's function; it gets bodies as JSON, without secrets and media |
| ids | calls | after the redactor, which may mask them; before the content goes in which they are |
| content | all records | after the redactor: content that it adds obeys the setting `content` |
| size | calls, events, messages | after all processors that change the size of the content |
| cost | calls | after the redactor: usage that it removes is not priced |
| callbacks | all records | last: they get the final record; a record that they return is processed again |

This cost is the one stated by the provider. Computed costs are added by a second list, which the delivery thread of a
store runs on decoded records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from callspan.cost.attempts import with_attempts
from callspan.cost.price_table import Pricer, pricer_for, provider_cost
from callspan.process import callbacks
from callspan.process.callbacks import Point
from callspan.process.content import encoded, with_bodies, withhold
from callspan.process.media_references import media_by_reference
from callspan.process.processed import ProcessedRecord
from callspan.process.redaction import Redactor, RedactorError, redacted
from callspan.process.secrets import mask_record
from callspan.record.bounded import fit_json, weight
from callspan.record.call import CallRecord, Redaction
from callspan.record.codec import encode_json
from callspan.record.content_level import at_level
from callspan.record.events import EventRecord, MessageRecord, Record
from callspan.record.id_hashes import with_id_hashes
from callspan.record.plain_json import MAX_GIVEN, TRUNCATED_KEY, plain_within
from callspan.record.span_handle import SpanHandle, with_span_ids
from callspan.runtime.fail_open import fail_open, report
from callspan.settings import Settings

_MAX_METADATA_VALUES: Final = 4_000
"""Maximum number of values in the metadata of a record, which several blocks and a session may give."""
_MAX_METADATA_BYTES: Final = 1 << 20
_SIZED: Final[dict[type, str]] = {EventRecord: "data", MessageRecord: "content"}
"""The field with a limited size, in records other than calls."""
_MAX_ESCAPE_BYTES: Final = 6
"""Maximum size of one character in JSON: the escape of a control character."""
Process: TypeAlias = Callable[[Any], Any]
"""Converts a record to a record of the same type; returns the same object if nothing changes. May raise."""
_R = TypeVar("_R", bound=Record)
_FAILED: Final = partial(withhold, why="processor_failed")
_REDACTOR_FAILED: Final = partial(withhold, why="redactor_failed")

_PRICE: Final = fail_open("price a call")
_READ: Final = fail_open("read the price file")


def within(record: Record, max_bytes: int) -> Record:
    """Return the record with at most `max_bytes` of content; the same object if it already fits.

    In a call, the longer body is replaced first, by `{"callspan_truncated": {"bytes": size}}`. The data of an event,
    the content of a message and all metadata are truncated to valid JSON.
    """
    if record.metadata:
        limit = max_bytes if max_bytes < _MAX_METADATA_BYTES else _MAX_METADATA_BYTES
        record = _with_less(record, "metadata", record.metadata, limit)
    if isinstance(record, CallRecord):
        request = len(memoryview(record.request.body))
        response = 0 if record.response is None else len(memoryview(record.response.body))
        return record if request + response <= max_bytes else _without_longer_body(record, request, response, max_bytes)
    field = _SIZED.get(type(record))
    return record if field is None else _with_less(record, field, getattr(record, field), max_bytes)


def _with_less(record: _R, field: str, value: object, max_bytes: int) -> _R:
    """Return the record with at most `max_bytes` in a field, with a note; the same object if its value fits."""
    if weight(value, max_bytes) * _MAX_ESCAPE_BYTES <= max_bytes or (cut := _cut(value, max_bytes)) is None:
        return record
    note = Redaction(what=field, why="size", original_bytes=cut[1])
    return msgspec.structs.replace(record, redactions=[*record.redactions, note], **{field: cut[0]})


def _without_longer_body(record: CallRecord, request: int, response: int, max_bytes: int) -> CallRecord:
    notes = []
    for size, side in sorted(((request, "request"), (response, "response")), reverse=True):
        if request + response <= max_bytes or size == 0:
            break
        marker = encoded({TRUNCATED_KEY: {"bytes": size}})
        if side == "request":
            record, request = with_bodies(record, marker, None), len(memoryview(marker))
        else:
            record, response = with_bodies(record, None, marker), len(memoryview(marker))
        notes.append(Redaction(what=f"{side}.body", why="size", original_bytes=size))
    return msgspec.structs.replace(record, redactions=[*record.redactions, *notes])


def with_plain_values(record: Record) -> Record:
    """Return the record with the application's values as new plain JSON (see `plain`); the same object without any."""
    if type(record) is CallRecord and not record.metadata:
        return record
    values: dict[str, object] = {}
    cut_fields: list[str] = []
    if record.metadata:
        values["metadata"], is_cut = plain_within(record.metadata, _MAX_METADATA_VALUES)
        cut_fields += ["metadata"] if is_cut else []
    if (data := _SIZED.get(type(record))) is not None:
        values[data], is_cut = plain_within(getattr(record, data), MAX_GIVEN)
        cut_fields += [data] if is_cut else []
    converted = msgspec.structs.replace(record, **values) if values else record
    return (
        _with_notes(converted, [Redaction(what=field, why="size") for field in cut_fields]) if cut_fields else converted
    )


def _with_notes(record: _R, notes: list[Redaction]) -> _R:
    """Return the record with these notes, each once: a record is processed again after a callback changed it."""
    return msgspec.structs.replace(
        record, redactions=[*(redaction for redaction in record.redactions if redaction not in notes), *notes]
    )


def _cut(value: object, max_bytes: int) -> tuple[object, int] | None:
    size = len(encode_json(value))
    if size <= max_bytes:
        return None
    return msgspec.json.decode(fit_json(value, max_bytes)[0]), size


class Processor(NamedTuple):
    """One step of the list."""

    step: fail_open
    """Reports its exceptions."""
    process: Process
    failed: Process = _FAILED
    """Makes the result if it raises; removes the record's content by default. Must not raise."""


class Processors:
    """A list of processors. Safe from any thread."""

    __slots__ = ("_changes_starts", "_processors", "redacts")

    def __init__(self, processors: Sequence[Processor], *, changes_starts: bool = True, redacts: bool = False) -> None:
        """`changes_starts` states that a processor may change records without content, settings, metadata and error."""
        self._processors = tuple(processors)
        self._changes_starts = changes_starts
        self.redacts = redacts
        """Whether one of them is the application's redactor."""

    def process(self, record: _R, point: Point | None = None) -> ProcessedRecord[_R]:
        """Return the record as it may be exported and stored, after the callbacks of `point` and of `before_record`.

        Raises only interrupts: if a processor raises, the record is kept without its content.
        """
        result = self._processed(record)
        return self._called_back(result, point) if callbacks.REGISTERED else result

    def with_callbacks(self, record: _R) -> ProcessedRecord[_R]:
        """Return the result of `process` for a record that the processors have made."""
        result = ProcessedRecord(record)
        return self._called_back(result, None) if callbacks.REGISTERED else result

    def _called_back(self, result: ProcessedRecord[_R], point: Point | None) -> ProcessedRecord[_R]:
        processed = result.record
        if point is not None:
            callbacks.call(point, processed)
        replacement = callbacks.call("before_record", processed)
        if replacement is processed:
            return result
        reprocessed = self._processed(replacement)
        return ProcessedRecord(reprocessed.record, result.interrupt or reprocessed.interrupt)

    def without_callbacks(self, record: _R) -> ProcessedRecord[_R]:
        """Return the result of `process` without callbacks, for records that are only exported or delivered."""
        return self._processed(record)

    def started(self, record: CallRecord) -> ProcessedRecord[CallRecord]:
        """Process the record of a call that starts, for its span and the count of calls in progress.

        Without a redactor, and with all content, the metadata is dropped instead of processed: neither uses it.
        """
        if self._changes_starts:
            return self._processed(record)
        return ProcessedRecord(msgspec.structs.replace(record, metadata={}) if record.metadata else record)

    def run(self, record: _R) -> _R:
        """Run the processors alone, without callbacks, for records that were read from the spool."""
        return self._processed(record).record

    def _processed(self, record: _R) -> ProcessedRecord[_R]:
        interrupt = None
        for step, process, failed in self._processors:
            try:
                record = process(record)
            except RedactorError as error:
                interrupt = interrupt or error.interrupt
                report(step.what, error.cause)
                record = failed(record)
            except Exception as error:
                step.report(error)
                record = failed(record)
        return ProcessedRecord(record, interrupt)


def interrupted(record: CallRecord) -> ProcessedRecord[CallRecord]:
    """Return the record of a call without its content, because its processing was interrupted."""
    return ProcessedRecord(withhold(record, why="interrupted"))


def with_span(processed: ProcessedRecord[_R], span: SpanHandle) -> ProcessedRecord[_R]:
    """Return a processed record with the ids of its span, which is only started from the processed record."""
    record: Any = processed.record
    return ProcessedRecord(with_span_ids(record, span), processed.interrupt)


def with_fields(processed: ProcessedRecord[_R], fields: dict[str, Any]) -> ProcessedRecord[_R]:
    """Return a processed record with these fields: the ids of its span, or none."""
    record: Any = processed.record
    return ProcessedRecord(msgspec.structs.replace(record, **fields), processed.interrupt)


def _always() -> bool:
    return True


def caller_processors(
    settings: Settings, redactor: Redactor | None = None, is_shown: Callable[[], object] = _always
) -> Processors:
    """Return the processors that run on the caller's thread.

    `is_shown` tells whether anything would show or keep a record now; else the redactor need not run.
    """
    steps = [
        Processor(fail_open("convert the values of a record"), with_plain_values),
        Processor(fail_open("mask the secrets of a record"), mask_record),
    ]
    if settings.media == "reference" and (settings.content == "full" or redactor is not None):
        steps.append(Processor(fail_open("replace the media of a record"), media_by_reference))
    if redactor is not None:
        redact = partial(_redacted_if_shown, redactor=redactor, is_shown=is_shown)
        steps.append(Processor(fail_open("redact a record with the application's redactor"), redact, _REDACTOR_FAILED))
    if settings.content != "full" and settings.runs:
        steps.append(Processor(fail_open("hash the ids of a call"), with_id_hashes, _unchanged))
    if settings.content != "full":
        reduce_content = partial(at_level, level=settings.content)
        steps.append(Processor(fail_open("remove the content of a record"), reduce_content))
    limit = partial(within, max_bytes=settings.max_record_bytes)
    steps.append(Processor(fail_open("limit the size of a record"), limit))
    steps.append(Processor(_PRICE, with_provider_cost, _unchanged))
    redacts = redactor is not None
    return Processors(steps, changes_starts=redacts or settings.content != "full", redacts=redacts)


def _redacted_if_shown(record: Record, redactor: Redactor, is_shown: Callable[[], object]) -> Record:
    """Return the redacted record, or one without content where nothing would show or keep it."""
    return redacted(record, redactor) if is_shown() else withhold(record, why="not_shown")


def delivery_processors(prices: Path | None) -> Processors:
    """Return the processors that run between spool and store; `prices` is the user's own price file."""
    return Processors([Processor(_PRICE, ComputedCost(prices), _unchanged)])


def with_provider_cost(record: Record) -> Record:
    """Return a call with the cost stated by its provider; any other record unchanged."""
    if not isinstance(record, CallRecord) or record.cost is not None:
        return record
    is_computed_later = record.usage is not None and record.usage.cost_usd is None
    return record if is_computed_later else with_attempts(record, provider_cost(record))


class ComputedCost:
    """Adds a missing cost to a call: the provider's, else from the user's prices, else from published prices."""

    __slots__ = ("_prices",)

    def __init__(self, prices: Path | None = None) -> None:
        """`prices` is the user's own price file, which is read when the first call is priced."""
        self._prices = prices

    def __call__(self, record: Record) -> Record:
        """Return the record with its cost; the same object if none is missing or known."""
        if not isinstance(record, CallRecord) or record.cost is not None or record.usage is None:
            return record
        return self._pricer().priced(record)

    def _pricer(self) -> Pricer:
        with _READ:
            return pricer_for(self._prices)
        # `instrument()` rejects an invalid file; `_READ` reports one that became invalid since.
        return pricer_for(None)


def _unchanged(record: Record) -> Record:
    return record
