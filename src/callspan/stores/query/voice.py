"""Voice: the turns of a realtime session, for the command and the page: speaker, duration, interruptions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final, Literal

import msgspec

from callspan.providers.openai.voice_items import cut_of, item_ids
from callspan.providers.registry import decoded
from callspan.record.apis import APIS, OTHER
from callspan.record.call import CallRecord
from callspan.record.finish_reasons import is_barge_in
from callspan.record.messages import Media, Message
from callspan.runtime.amounts import USUAL
from callspan.stores.base import Entry, start_of

_BEFORE_NS: Final = 1_000
"""Precise enough for a browser, where times are milliseconds as floats."""
_MINUTE_NS: Final = 60_000_000_000


class VoiceTurn(msgspec.Struct):
    """The speech of one side. None is unknown."""

    speaker: Literal["user", "assistant"]
    at_ns: int
    """Its time in the conversation. The user's speech precedes the answer, even if it was transcribed later."""
    seconds: float | None
    """Seconds of audio."""
    shown: list[Message] = []
    """Messages of the request that other turns show: transcribed speech, and notes of where an answer was cut."""
    is_barge_in: bool = False
    """Whether the user interrupted this answer."""
    heard_s: float | None = None
    """Seconds of the answer that were played before the interruption."""


def is_realtime(entry: Entry) -> bool:
    """Return whether an entry is a response in a realtime session."""
    return isinstance(entry, CallRecord) and _speech_of(entry) == "response"


def is_voice(entry: Entry) -> bool:
    """Return whether an entry is a call of a speech session, which is billed by the minute."""
    return isinstance(entry, CallRecord) and _speech_of(entry) in ("response", "session")


def _speech_of(call: CallRecord) -> str | None:
    return APIS.get(call.api, OTHER).speech


def voice_turns(entries: Iterable[Entry]) -> dict[str, VoiceTurn]:
    """Return the turns of realtime responses and transcriptions by call id; none without a realtime response."""
    calls = [entry for entry in entries if isinstance(entry, CallRecord)]
    answers = list(filter(is_realtime, calls))
    speeches = [call for call in calls if _speech_of(call) == "transcript"] if answers else []
    turns = {
        call.call_id: VoiceTurn("user", start_of(call), seconds_of(_asked(call)), _asked(call)) for call in speeches
    }
    for call in answers:
        messages = call.conversation.output if call.conversation is not None else []
        turns[call.call_id] = VoiceTurn("assistant", start_of(call), seconds_of(messages))
    cuts = dict(
        filter(None, map(cut_of, (part for call in answers for message in _asked(call) for part in message.parts)))
    )
    for answer in answers:
        turn = turns[answer.call_id]
        turn.shown = list(_shown(answer, turns, speeches))
        turn.heard_s = next((cuts[item_id] for item_id in _item_ids(answer) if item_id in cuts), None)
        is_detected = answer.outcome == "cancelled" and is_barge_in(answer.finish_reason)
        turn.is_barge_in = is_detected or turn.heard_s is not None
    return turns


def minute_cost(cost_usd: Decimal | None, duration_ns: int | None) -> Decimal | None:
    """Return the cost per minute of wall-clock time; None if unknown."""
    if cost_usd is None or not duration_ns:
        return None
    return USUAL.divide(USUAL.multiply(cost_usd, Decimal(_MINUTE_NS)), Decimal(duration_ns))


def seconds_of(messages: Iterable[Message]) -> float | None:
    """Return the seconds of audio in messages; None if unknown or without audio."""
    sounds = [part.seconds for message in messages for part in message.parts if isinstance(part, Media)]
    durations = [seconds for seconds in sounds if seconds is not None]
    return sum(durations) if durations else None


def _shown(answer: CallRecord, turns: dict[str, VoiceTurn], speeches: list[CallRecord]) -> Iterator[Message]:
    """Yield the messages that other turns show; remove their transcriptions and time them before the answer."""
    for message in _asked(answer):
        speech = next(
            (candidate for candidate in speeches if message.role == "user" and _is_of(candidate, message)), None
        )
        if speech is not None:
            speeches.remove(speech)
            turns[speech.call_id].at_ns = min(start_of(speech), start_of(answer) - _BEFORE_NS)
        if speech is not None or any(map(cut_of, message.parts)):
            yield message


def _is_of(speech: CallRecord, message: Message) -> bool:
    """Return whether a message was transcribed by this call. If the transcript came late, it has only audio."""
    if message.text is not None:
        return message.text == speech.text
    return message.parts != [] and [message.parts] == [original.parts for original in _asked(speech)]


def _asked(call: CallRecord) -> list[Message]:
    return call.conversation.input if call.conversation is not None else []


def _item_ids(answer: CallRecord) -> Iterator[str]:
    return item_ids(decoded(answer.response.body)) if answer.response is not None else iter(())
