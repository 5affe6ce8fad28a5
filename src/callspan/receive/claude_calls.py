"""Claude Code's calls: which of its events belong to one call, in whatever order they came.

The answer names its request. The other events, `api_request`, `api_error` and `api_refusal`, name neither, but have the
id that the provider gave to the answer. Gateways and compatible servers give none. Then such an event belongs

1. to the answer with its model and tokens, the nearest in time; each answer has one such event, and if there are enough
   events, each answer gets one;
2. else to the newest request before it, as the program sends one at a time for each purpose and agent;
3. else to a call of its own: nothing else of that call was received.

Which calls there are depends on the set of events alone. Another event never makes the answered ones fewer. It may join
an answer and a request that were two calls before. So may the answer that shows that counters are another request's:
the request that had them becomes an attempt of an equal one sent next. Until then at most one of both has a record, so
no record is left without a call.

An `api_refusal` comes beside the `api_request` of the same answer. Without an id it belongs to the nearest answer of
its model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from callspan.providers.wire_json import count, integer, text
from callspan.receive.claude_records import ClaudeEvent, Counters, LoggedBody, ObservedCall
from callspan.receive.senders import Sender

ERROR: Final = "api_error"
REFUSAL: Final = "api_refusal"
_SAME_TIME_NS: Final = 5 * 10**9
"""The program logs a request at about the time when it starts to measure the answer."""


class Lane:
    """The requests of one purpose and agent, and their events. The program sends these requests one at a time."""

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self.requests: dict[str, LoggedBody] = {}
        """By their id."""
        self.answers: dict[str, LoggedBody] = {}
        """By the id of their request."""
        self.facts: dict[str, ClaudeEvent] = {}
        """Each `api_request`, `api_error` and `api_refusal`, by its key."""
        self.written: dict[frozenset[str], str] = {}
        """The ids of the written calls, by the keys of their events, oldest first."""
        self.waiting: list[ObservedCall] = []
        """The calls that are still without an answer."""
        self.unsettled: list[ObservedCall] = []
        """The recorded calls with requests that may be of other calls: equal requests, sent at once."""
        self.is_whole = True
        """Whether all of the answers were read."""
        self.last_ns = 0
        """The time of the last event."""

    @property
    def kept(self) -> list[ObservedCall]:
        """The calls with bodies that are still kept."""
        return [*self.unsettled, *self.waiting]

    def calls(self) -> list[ObservedCall]:
        """Return the calls that the events describe, in order of time."""
        # Every order here is that of the events, never that in which they came.
        answers = sorted(self.answers.items(), key=lambda item: (item[1].event.order, item[0]))
        calls = [ObservedCall(request=self.requests.get(ident), response=answer) for ident, answer in answers]
        facts = sorted(self.facts.items(), key=lambda item: (item[1].order, item[0]))
        refusals = [item for item in facts if item[1].name == REFUSAL]
        facts = [item for item in facts if item[1].name != REFUSAL]
        facts = [item for item in facts if not _named(item, calls)]
        facts = _without_counted(facts, calls)
        sent = sorted(self.requests.values(), key=lambda body: (body.event.order, body.body_id))
        of_request = {call.request.body_id: call for call in calls if call.request is not None}
        for item in facts:
            call = _sent_before(item[1], sent, of_request)
            if call is None or not _takes(call, item[1]):
                call = ObservedCall()
            if call not in calls:
                calls.append(call)
            if call.request is not None:
                of_request[call.request.body_id] = call
            _add(call, item)
        for item in refusals:
            call = _refused(item[1], calls)
            if call is None:
                calls.append(call := ObservedCall())
            _add(call, item)
        calls += _unanswered(sent, of_request)
        calls.sort(key=lambda call: (call.time_ns, call.keys))
        return calls

    def forget(self, limit: int) -> None:
        """Forget the oldest written calls above the limit."""
        for keys in list(self.written)[:-limit]:
            del self.written[keys]
            for key in keys:
                ident = key.partition(" ")[2]
                if key.startswith("request "):
                    self.requests.pop(ident, None)
                elif key.startswith("answer "):
                    self.answers.pop(ident, None)
                else:
                    self.facts.pop(key, None)

    def note_written(self, keys: frozenset[str], call_id: str) -> None:
        """Note that a call was written with these events; forget earlier notes that share one with it."""
        self.written = {other: ident for other, ident in self.written.items() if not other & keys}
        self.written[keys] = call_id


def counters_in(body: object, model: str | None) -> Counters | None:
    """Return the model and the tokens of an answer's body."""
    if not isinstance(body, dict):
        return None
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return Counters(
        models=sorted({model or "", text(body, "model") or ""} - {""}),
        tokens=[count(body, "usage", name) or 0 for name in names],
    )


def _counters_of(event: ClaudeEvent) -> list[int]:
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens")
    return [count(event.attributes, name) or 0 for name in names]


def _add(call: ObservedCall, item: tuple[str, ClaudeEvent]) -> None:
    key, event = item
    call.keys_of_facts = (*call.keys_of_facts, key)
    if event.name == ERROR:
        call.error = event
    elif event.name == REFUSAL:
        call.refusal = event
    else:
        call.facts = event


def _takes(call: ObservedCall, event: ClaudeEvent) -> bool:
    """Return whether a call may have this event: it has at most one of each kind."""
    if event.name == ERROR and call.response is not None:
        return False
    response_id = None if call.response is None else call.response.event.request_id
    has_other_id = response_id is not None and event.request_id is not None
    return call.facts is None and call.error is None and not has_other_id


def _refused(event: ClaudeEvent, calls: Iterable[ObservedCall]) -> ObservedCall | None:
    """Return the call whose answer was refused, by the id of the answer; if no event has one, the nearest in time."""
    request_id, model = event.request_id, event.model
    answered = [call for call in calls if call.refusal is None and call.error is None and call.events]
    if request_id is not None:
        return next((call for call in answered if f"id {request_id}" in call.id_keys), None)
    near = [
        (distance_ns, number, call)
        for number, call in enumerate(answered)
        if not call.id_keys and model in (None, call.events[0].model)
        if (distance_ns := abs(call.events[0].time_ns - event.time_ns)) <= _SAME_TIME_NS
    ]
    return min(near)[2] if near else None


def _named(item: tuple[str, ClaudeEvent], calls: Iterable[ObservedCall]) -> bool:
    """Add an event to the call with the answer that it names; return False if there is no such call."""
    if (request_id := item[1].request_id) is None:
        return False
    for call in calls:
        if call.response is not None and call.response.event.request_id == request_id:
            _add(call, item)
            return True
    return False


def _without_counted(facts: list[tuple[str, ClaudeEvent]], calls: list[ObservedCall]) -> list[tuple[str, ClaudeEvent]]:
    """Give each answer the event with its counters; return the other events.

    As many answers as possible get one: else an event of an answer would be a second call.
    """
    pairs = sorted(
        (abs(call.response.time_ns - event.time_ns), number, other)
        for number, (_, event) in enumerate(facts)
        for other, call in enumerate(calls)
        if call.response is not None and event.name != ERROR and _counts(event, call.response.counters)
        # An answer is not counted before it is asked for.
        if (call.request is None or call.request.time_ns <= event.time_ns) and _takes(call, event)
    )
    choices: dict[int, list[int]] = {}
    call_of: dict[int, int] = {}
    fact_of: dict[int, int] = {}
    for _, number, other in pairs:
        choices.setdefault(number, []).append(other)
        if number not in call_of and other not in fact_of:
            call_of[number], fact_of[other] = other, number
    for number in sorted(choices.keys() - call_of.keys()):
        _make_room(number, choices, call_of, fact_of)
    for number, other in call_of.items():
        _add(calls[other], facts[number])
    return [item for number, item in enumerate(facts) if number not in call_of]


def _make_room(number: int, choices: dict[int, list[int]], call_of: dict[int, int], fact_of: dict[int, int]) -> None:
    """Give one more event a call if others can have another one instead (an augmenting path)."""
    wanted_by: dict[int, int] = {}
    numbers = [number]
    for candidate in numbers:
        for other in choices[candidate]:
            if other in wanted_by:
                continue
            wanted_by[other] = candidate
            if other in fact_of:
                numbers.append(fact_of[other])
                continue
            free: int | None = other
            while free is not None:
                taker = wanted_by[free]
                fact_of[free] = taker
                left = call_of.get(taker)
                call_of[taker], free = free, left
            return


def _counts(event: ClaudeEvent, counters: Counters | None) -> bool:
    model = event.model
    return (
        counters is not None
        and counters.tokens == _counters_of(event)
        and (model is None or not counters.models or model in counters.models)
    )


def _sent_before(
    event: ClaudeEvent, sent: list[LoggedBody], of_request: dict[str, ObservedCall]
) -> ObservedCall | None:
    """Return the call of the newest request before an event."""
    before = [body for body in sent if body.time_ns <= event.time_ns]
    if not before:
        return None
    body = before[-1]
    if (call := of_request.get(body.body_id)) is not None:
        return call
    # If it began later, its own request was lost.
    duration_ms = integer(event.attributes, "duration_ms")
    is_of_it = duration_ms is None or event.time_ns - duration_ms * 1_000_000 <= body.time_ns + _SAME_TIME_NS
    return ObservedCall(request=body) if is_of_it or event.name == ERROR else None


def _unanswered(sent: list[LoggedBody], of_request: dict[str, ObservedCall]) -> Iterator[ObservedCall]:
    """Yield the calls of requests without an answer.

    A request with the same body as the next one was an attempt of the same call. Once a later request has an answer, an
    earlier one no longer waits.
    """
    later: ObservedCall | None = None
    is_followed = False
    for body in reversed(sent):
        call = of_request.get(body.body_id)
        if call is None and later is not None and later.sent[0].has_content_of(body):
            later.retried = [body, *later.retried]
            continue
        if call is None:
            call = ObservedCall(request=body)
            yield call
        elif call.response is None and call.facts is not None and later is not None:
            # If the counters turn out to be another request's, this one was an attempt of the next call.
            call.may_be_split = later.sent[0].has_content_of(body)
        call.waits = not is_followed and call.response is None and call.error is None
        is_followed = is_followed or bool(call.response or call.error)
        later = call
