"""Console: one line per finished call on standard error, for debugging."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Final

from callspan.formatting import duration
from callspan.record.bounded import text_attribute
from callspan.record.call import CallRecord
from callspan.record.events import Record
from callspan.record.messages import Message
from callspan.stores.protocol import Store

_OUTPUT_BYTES: Final = 80


class Console(Store):
    """Standard error: each ended call is printed, with messages only if the content setting allows them."""

    example = "console://"

    def try_out(self) -> str:
        """Print nothing."""
        return "calls are printed on standard error"

    def deliver(self, records: Sequence[Record]) -> None:
        """Print the calls among the records. Raises OSError."""
        calls = [record for record in records if isinstance(record, CallRecord) and not record.is_first_version]
        text = "".join(line(call) + "\n" for call in calls)
        stream = sys.stderr
        if text and stream is not None and not stream.closed:
            stream.write(text)
            stream.flush()


def line(call: CallRecord) -> str:
    """Return one line about a call, without control characters: time, model, outcome, tokens, duration, text."""
    return "".join(char if char.isprintable() else " " for char in "  ".join(_parts(call)))


def _parts(call: CallRecord) -> Iterator[str]:
    yield datetime.fromtimestamp(call.timing.start_ns / 1e9, timezone.utc).strftime("%H:%M:%S")
    yield f"{call.provider} {call.operation} {call.request.model or '-'}"
    yield call.outcome if call.error is None else f"{call.outcome} {call.error.kind}"
    if call.usage is not None:
        counts = (call.usage.input_tokens, call.usage.output_tokens)
        yield "+".join("-" if count is None else str(count) for count in counts) + " tokens"
    if call.timing.duration_ns is not None:
        yield duration(call.timing.duration_ns)
    conversation = call.conversation
    if conversation is not None:
        yield f"{_words(conversation.input)} -> {_words(conversation.output)}"


def _words(messages: Sequence[Message]) -> str:
    """Return the first characters of the last message's text."""
    texts = [getattr(part, "text", None) for part in messages[-1].parts] if messages else []
    return repr(text_attribute(" ".join(text for text in texts if text), _OUTPUT_BYTES))
