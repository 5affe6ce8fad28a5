"""Call text: outcome, result and tokens of a call in one line."""

from __future__ import annotations

from rich.text import Text

from callspan.cli.json_rows import output_text
from callspan.cli.screen import OUTCOME_STYLES, styled
from callspan.formatting import UNKNOWN, tokens
from callspan.records import CallRecord


def outcome_text(call: CallRecord) -> Text:
    """Return a call's outcome, the missing part of its answer, its HTTP status and its number of retries."""
    word = " ".join(filter(None, (call.outcome, _kind_of_error(call))))
    style = OUTCOME_STYLES.get(call.outcome, "")
    for is_so, mark in ((call.is_cut_by_length, "cut by length"), (call.is_cut_off, "cut off")):
        if is_so:
            # Instead of the word for success: 80 columns have room for one.
            word, style = (mark, "yellow") if call.outcome == "success" else (f"{word}, {mark}", style)
    if call.response is not None and call.response.unrecognized:
        word += ", not recognized"
    retried = f", {call.retries} retr{'y' if call.retries == 1 else 'ies'}" if call.retries else ""
    return styled((word, style), (retried, "yellow"))


def _kind_of_error(call: CallRecord) -> str | None:
    """Return the HTTP status of an error, else its kind where the outcome does not say it."""
    error = call.error
    if error is None or error.status is not None:
        return None if error is None else str(error.status)
    return error.kind if call.outcome == "error" and error.kind != "unknown" else None


def result_text(call: CallRecord) -> str:
    """Return a short form of a call's output, else the message of its error; not that of a cancellation."""
    error = call.error if call.outcome != "cancelled" else None
    return output_text(call) or (error.message if error else None) or ""


def call_tokens(call: CallRecord) -> str:
    """Return a call's tokens of input and output."""
    return tokens(call.usage.input_tokens, call.usage.output_tokens) if call.usage else UNKNOWN
