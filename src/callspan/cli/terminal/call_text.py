"""Call text: outcome, result and tokens of a call in one line, and a turn of a voice session."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from callspan.cli.json_rows import output_text
from callspan.cli.terminal.screen import OUTCOME_STYLES, styled
from callspan.formatting import UNKNOWN, duration, money, tokens
from callspan.records import CallRecord, Response
from callspan.stores import VoiceTurn, seconds_of


def outcome_text(call: CallRecord) -> Text:
    """Return a call's outcome, the missing part of its answer, its HTTP status and its number of retries."""
    word = " ".join(filter(None, (call.outcome, _kind_of_error(call))))
    style = OUTCOME_STYLES.get(call.outcome, "")
    marks = (("cut by length", call.is_cut_by_length), ("cut off", call.is_cut_off))
    lacks = (call.unanswered or "", call.unanswered is not None)
    for mark, applies in (*marks, ("waiting for approval", call.waits_for_approval), lacks):
        if applies:
            # Instead of `success`, because 80 columns have room for only one word.
            word, style = (mark, "yellow") if call.outcome == "success" else (f"{word}, {mark}", style)
    word += "".join(f", {doubt}" for doubt, applies in _doubts(call.response).items() if applies)
    return styled((word, style), retried(call.retries))


def _doubts(response: Response | None) -> dict[str, bool]:
    """Return what is not known of an answer, or was missing to make it."""
    if response is None:
        return {}
    return {
        "not recognized": response.unrecognized,
        "not read": response.unread,
        "unknown finish": response.unknown_finish,
        "MCP tools missing": response.tools_unlisted,
    }


def retried(number: int | None) -> tuple[str, str]:
    """Return the number of retries; empty for none."""
    return (f", {number:,} retr{'y' if number == 1 else 'ies'}" if number else ""), "yellow"


def other_outcome(call: CallRecord) -> Text:
    """Return a call's outcome followed by a gap; empty for success."""
    text = outcome_text(call)
    return text.append("  ") if text.plain != "success" else Text()


def _kind_of_error(call: CallRecord) -> str | None:
    """Return the HTTP status of an error, else its kind unless the outcome implies it."""
    error = call.error
    if error is None or error.status is not None:
        return None if error is None else str(error.status)
    return error.kind if call.outcome == "error" and error.kind != "unknown" else None


def result_text(call: CallRecord) -> str:
    """Return a short form of a call's output, else its error message, except for cancellations."""
    error = call.error if call.outcome != "cancelled" else None
    return output_text(call) or (error.message if error else None) or ""


def call_tokens(call: CallRecord) -> str:
    """Return a call's input and output tokens; of a cached answer, its source."""
    if call.response is not None and call.response.cached is not None:
        return "cached"
    return tokens(call.usage.input_tokens, call.usage.output_tokens) if call.usage else UNKNOWN


def turn_lines(call: CallRecord, turn: VoiceTurn) -> Iterator[Text]:
    """Yield the lines of a voice turn: the user's speech, unless a transcription shows it, then its own."""
    spoken_input = call.conversation.input if turn.speaker == "assistant" and call.conversation is not None else []
    for message in spoken_input:
        if message.role == "user" and message not in turn.shown:
            yield styled(_speaker("user", seconds_of([message])), message.text or "")
    unit = "token" if turn.seconds is None else "audio"
    played = "" if turn.heard_s is None else f" after {_length(turn.heard_s)}"
    yield styled(
        _speaker(turn.speaker, turn.seconds),
        (f"(first {unit} {duration(call.timing.first_token_ns)})  " if turn.speaker == "assistant" else "", "dim"),
        f"{money(call.cost.usd)}  " if call.cost else "",
        (f"barge-in{played}  ", "yellow") if turn.is_barge_in else other_outcome(call),
        result_text(call),
    )


def _speaker(name: str, seconds: float | None) -> Text:
    length = "" if seconds is None else f"{_length(seconds)}  "
    return styled((f"{name}  ", "bold blue" if name == "user" else "bold green"), length)


def _length(seconds: float) -> str:
    return duration(seconds * 1e9)
