"""The state table of a response: complete, consistent with its rules, and one end for every sequence of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.intercept.response_observer import CapturePath, ResponseObserver
from callspan.intercept.response_state import STREAM_ENDS, TABLE, Action, Event, State
from callspan.observe.deferred_ends import DeferredEnds
from callspan.observe.live_call import CallFactory, CallInfo
from callspan.process.processed import Processed
from callspan.providers import registry
from callspan.records import CallRecord, Record, StreamEnd
from tests.processed import UNPROCESSED

Table = Mapping[tuple[State, Event], tuple[State, Action]]
Answer = tuple[State, Action]

FROM_FINALIZERS = {Event.READER_GONE, Event.RESPONSE_GONE}
ENDS = [event for event in Event if event in STREAM_ENDS]
WITHOUT_CHUNKS: dict[Event, StreamEnd] = {**STREAM_ENDS, Event.COMPLETED: "cut_off"}
"""How a stream ends of which no terminal event came."""


def by_the_rules(state: State, event: Event) -> Answer | None:
    """What the rules at the top of `response_state` say of one cell; None: nothing changes."""
    if event in ENDS and state is State.AWAITED:
        return State.ENDED_EARLY, Action.REMEMBER
    if event in ENDS and state is State.HELD:
        return State.ENDED, Action.DEFER if event in FROM_FINALIZERS else Action.END
    if event is Event.HANDED_OVER and state is State.AWAITED:
        return State.HELD, Action.NOTHING
    if event is Event.HANDED_OVER and state is State.ENDED_EARLY:
        return State.ENDED, Action.END_REMEMBERED
    return None


def breaches(table: Table) -> list[str]:
    """Cells that are missing, superfluous or not as the rules say."""
    return [
        f"{state.name} + {event.name}: {table.get((state, event))}"
        for state, event in product(State, Event)
        if table.get((state, event)) != by_the_rules(state, event)
    ]


def test_every_pair_of_state_and_event_follows_the_rules() -> None:
    assert breaches(TABLE) == []


def test_any_change_of_any_cell_breaks_a_rule() -> None:
    for cell, answer in product(product(State, Event), product(State, Action)):
        if answer != TABLE.get(cell):
            assert breaches({**TABLE, cell: answer}), (cell, answer)
    for cell in TABLE:
        assert breaches({known: answer for known, answer in TABLE.items() if known != cell}), cell


def ended_by(table: Table, events: Sequence[Event]) -> list[Event]:
    """The events that end a call, as a driver of the table carries them out."""
    state, remembered, ended = State.AWAITED, None, list[Event]()
    for event in events:
        state, action = table.get((state, event), (state, Action.NOTHING))
        if action is Action.REMEMBER:
            remembered = event
        elif action in (Action.END, Action.DEFER):
            ended.append(event)
        elif action is Action.END_REMEMBERED:
            assert remembered is not None, events
            ended.append(remembered)
    return ended


def test_of_any_four_events_at_most_one_ends_the_call_and_that_is_the_first_of_the_callers_response() -> None:
    for events in product(Event, repeat=4):
        ends = [event for event in events if event in ENDS]
        assert ended_by(TABLE, events) == (ends[:1] if Event.HANDED_OVER in events else []), events


class Span:
    trace_id = span_id = parent_span_id = trace = None
    sampled = True
    wants_content = False

    def end(self, record: Processed[CallRecord], conversation: object) -> None: ...


class Observed:
    """An observer of a stream's response, with a real call and its real queue."""

    def __init__(self, *interrupts: BaseException) -> None:
        """`interrupts` come one after the other while a record is written."""
        self.written: list[Record] = []
        self.interrupts = list(interrupts)
        self.deferred = DeferredEnds()
        factory = CallFactory(
            start_span=lambda _record: Span(), processors=UNPROCESSED, write=self.write,
            observed=lambda _record: None, ambient=lambda: (None, None, {}),
            run_again=self.deferred.put,
        )  # fmt: skip
        chat = registry.endpoint_for("post", "/chat/completions")
        assert chat is not None
        self.call = factory.start(chat, CallInfo(provider="openai", model="gpt-5", stream=True))
        self.observer = ResponseObserver(self.call, self.deferred, CapturePath())

    def write(self, processed: Processed[CallRecord]) -> None:
        if self.interrupts:
            raise self.interrupts.pop(0)
        self.written.append(processed.record)

    def on(self, event: Event) -> None:
        if event is Event.FAILED:
            self.observer.failed(ValueError("cut off"))
        else:
            self.observer.on(event)

    @property
    def stream_ends(self) -> list[StreamEnd | None]:
        """How the stream ended, once for each record."""
        assert self.deferred.drain()
        return [record.stream and record.stream.end for record in self.written if isinstance(record, CallRecord)]


@given(events=st.lists(st.sampled_from(Event), max_size=12))
def test_the_first_end_is_the_one_record_of_the_call_and_nothing_comes_after_it(events: list[Event]) -> None:
    observed = Observed()
    for event in events:
        observed.on(event)
    expected = ended_by(TABLE, events)
    assert observed.stream_ends == [WITHOUT_CHUNKS[event] for event in expected]
    assert observed.call.ended is bool(expected)
    if expected:
        for event in Event:
            observed.on(event)
            assert observed.observer.state is State.ENDED
        assert len(observed.stream_ends) == 1


def test_an_end_that_was_interrupted_in_its_append_runs_once_more() -> None:
    observed = Observed(KeyboardInterrupt())
    observed.on(Event.HANDED_OVER)
    with pytest.raises(KeyboardInterrupt):
        observed.on(Event.COMPLETED)
    observed.on(Event.CLOSED)
    assert observed.observer.state is State.ENDED
    assert observed.stream_ends == [WITHOUT_CHUNKS[Event.COMPLETED]]
