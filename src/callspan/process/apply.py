"""The policy of one `instrument()`: what every record goes through before anything of it is shown or kept."""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.config import Settings
from callspan.fail_open import attempt, fail_open
from callspan.process.content import without_content, without_words
from callspan.process.media import media_by_reference
from callspan.process.redaction import Redactor, redacted
from callspan.process.secrets import mask_record
from callspan.process.truncate import within
from callspan.record.call import NO_BODY, CallRecord, Redaction, Request
from callspan.record.events import Record

_FAILED: Final = "policy_failed"
_APPLY: Final = fail_open("apply the content policy to a record")


class Policy:
    """Applies, in this order: secrets, media, the user's redactor, the content setting, the record's cap.

    Safe from any thread. Never raises; where a step of ours fails, the record loses its content.
    """

    __slots__ = ("_content", "_max_bytes", "_redactor", "_reference_media")

    def __init__(self, settings: Settings, redactor: Redactor | None = None) -> None:
        self._content = settings.content
        self._max_bytes = settings.max_record_bytes
        sees_bodies = settings.content == "full" or redactor is not None
        self._reference_media = settings.media == "reference" and sees_bodies
        self._redactor = redactor

    def apply(self, record: Record) -> Record:
        """Return the record as it may be shown and kept: the same object where nothing has to be done."""
        kept = attempt(_APPLY, self._applied, record)
        return _bare(record) if kept is None else kept

    def _applied(self, record: Record) -> Record:
        record = mask_record(record)
        if self._reference_media and isinstance(record, CallRecord):
            record = media_by_reference(record)
        if self._redactor is not None:
            record = redacted(record, self._redactor)
        if self._content != "full":
            record = without_content(record, keep_facts=self._content == "metadata")
        return within(record, self._max_bytes)


def _bare(record: Record) -> Record:
    """The record without anything that could have made the policy fail: no settings, bodies, words or metadata."""
    if not isinstance(record, CallRecord):
        return without_content(record, keep_facts=False, why=_FAILED)
    asked, answer, error = record.request, record.response, record.error
    return msgspec.structs.replace(
        record,
        request=Request(
            model=asked.model, stream=asked.stream, message_count=asked.message_count, body_bytes=asked.body_bytes
        ),
        response=None if answer is None else msgspec.structs.replace(answer, body=NO_BODY),
        error=None if error is None else without_words(error),
        metadata={},
        conversation=None,
        redactions=[*record.redactions, Redaction(what="record", why=_FAILED)],
    )
