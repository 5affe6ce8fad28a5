"""Which response the frames of a websocket belong to."""

from __future__ import annotations

from typing import Any

from callspan.providers.openai.lanes import Lanes

ENDED = "response.completed"


class Talk:
    """Lanes whose calls are names; `done` is what was to be done, in order."""

    def __init__(self) -> None:
        self.lanes: Lanes[str | None] = Lanes(None)
        self.done: list[tuple[str, str | None]] = []
        self.begun: list[dict[str, Any]] = []

    def create(self, call: str | None, lane: str | None = None, **body: Any) -> None:
        named = {} if lane is None else {"stream_id": lane}
        self.lanes.create({"type": "response.create", "model": "m", **named, **body}, call)

    def steer(self, response_id: str, given: Any) -> None:
        self.lanes.steer({"type": "response.steer", "previous_response_id": response_id, "input": given})

    def get(self, kind: str, lane: str | None = None, *, of: str | None = None, **fields: Any) -> list[str]:
        """Receive an event; return what is to be done."""
        event: dict[str, Any] = {"type": kind, **({} if lane is None else {"stream_id": lane}), **fields}
        if of is not None:
            event["response"] = {"id": of, "model": "m", **fields}
        steps = self.lanes.received(event)
        for action, turn, body in steps:
            if action == "begin":
                turn.call = f"successor {len(self.begun)}"
                self.begun.append(body)
            self.done.append((action, turn.call))
        return [f"{action} {turn.call}" for action, turn, _ in steps]


def test_creates_and_created_pair_in_the_order_of_their_lane() -> None:
    talk = Talk()
    talk.create("one", "a")
    talk.create("two", "a")
    talk.create("other")
    assert talk.get("response.created", of="r0") == ["chunk other"]
    assert talk.get("response.created", "a", of="r1") == ["chunk one"]
    assert talk.get("response.output_text.delta", delta="x") == ["chunk other"]
    assert talk.get(ENDED, "a", of="r1") == ["chunk one", "end one"]
    assert talk.get("response.created", "a", of="r2") == ["chunk two"]


def test_an_error_ends_what_runs_or_refuses_the_next_create() -> None:
    talk = Talk()
    talk.create("one")
    talk.create("two")
    talk.get("response.created", of="r1")
    assert talk.get("error", status=400) == ["fail two"], "it has no number: the running response goes on"
    assert talk.get("response.output_text.delta") == ["chunk one"]
    assert talk.get("error", sequence_number=3) == ["fail one"]
    talk.create("three")
    assert talk.get("error", status=400) == ["fail three"]
    assert talk.get("error", status=400) == [], "it is about the connection"


def test_an_error_without_a_number_ends_what_runs_where_nothing_waits() -> None:
    talk = Talk()
    talk.create("one")
    talk.get("response.created", of="r1")
    assert talk.get("error", status=500) == ["fail one"]


def test_a_steered_successor_inherits_the_settings_and_has_the_accepted_input() -> None:
    talk = Talk()
    talk.create("one", "a", input="Tell a story.", tools=[{"name": "look"}], temperature=0.5, generate=True)
    talk.get("response.created", "a", of="r1")
    talk.steer("r1", "Be brief.")
    talk.get("response.steer.accepted", "a", steer={"id": "s1", "previous_response_id": "r1"})
    talk.steer("r1", [{"role": "user", "content": "In French."}])
    talk.get("response.steer.accepted", "a", steer={"id": "s2", "previous_response_id": "r1"})
    talk.steer("r1", "Too late.")
    talk.get("response.incomplete", "a", of="r1")
    assert talk.get("response.created", "a", of="r2", previous_response_id="r1") == [
        "begin successor 0",
        "chunk successor 0",
    ]
    assert talk.begun == [
        {
            "model": "m",
            "tools": [{"name": "look"}],
            "temperature": 0.5,
            "input": [{"role": "user", "content": "Be brief."}, {"role": "user", "content": "In French."}],
            "previous_response_id": "r1",
        }
    ]


def test_a_successor_that_nothing_explains_continues_the_last_response() -> None:
    talk = Talk()
    talk.create("one", input="Hi", temperature=0.5)
    talk.get("response.created", of="r1")
    talk.get(ENDED, of="r1")
    talk.get("response.created", of="r2")
    assert talk.begun == [{"model": "m", "previous_response_id": "r1"}]


def test_a_successor_comes_before_a_create_that_waits() -> None:
    talk = Talk()
    talk.create("one")
    talk.create("two", previous_response_id="r0")
    talk.get("response.created", of="r1")
    talk.steer("r1", "Be brief.")
    talk.get("response.incomplete", of="r1")
    assert talk.get("response.created", of="r2", previous_response_id="r1") == [
        "begin successor 0",
        "chunk successor 0",
    ]
    talk.get(ENDED, of="r2")
    assert talk.get("response.created", of="r3", previous_response_id="r0") == ["chunk two"]


def test_queued_input_goes_into_the_create_with_the_results_of_tools() -> None:
    talk = Talk()
    talk.create("one")
    talk.get("response.created", of="r1")
    talk.steer("r1", "Be brief.")
    talk.get("response.steer.accepted", steer={"id": "s1", "previous_response_id": "r1"})
    talk.get(ENDED, of="r1")
    assert talk.get("response.steer.pending", steer={"id": "s1", "previous_response_id": "r1"}) == []
    talk.create("two", previous_response_id="r1")
    assert talk.get("response.created", of="r2", previous_response_id="r1") == ["chunk two"]
    talk.get(ENDED, of="r2")
    assert talk.begun == []


def test_input_that_is_refused_after_it_was_accepted_is_not_the_successors() -> None:
    talk = Talk()
    talk.create("one")
    talk.get("response.created", of="r1")
    for given in ("First.", "Second."):
        talk.steer("r1", given)
        talk.get("response.steer.accepted", steer={"id": given, "previous_response_id": "r1"})
    talk.get(ENDED, of="r1")
    talk.get("response.steer.failed", steer={"id": "First.", "previous_response_id": "r1", "input": "First."})
    talk.get("response.created", of="r2", previous_response_id="r1")
    assert talk.begun[0]["input"] == "Second."


def test_a_response_whose_end_is_missing_ends_when_the_next_one_begins() -> None:
    talk = Talk()
    talk.create("one")
    talk.create("two")
    talk.get("response.created", of="r1")
    assert talk.get("response.created", of="r2") == ["end one", "chunk two"]


def test_after_a_loss_events_begin_the_create_that_waits() -> None:
    talk = Talk()
    talk.create("one")
    assert talk.get("response.output_text.delta") == []
    assert [turn.call for turn in talk.lanes.lost()] == ["one"]
    assert talk.get("response.steer.accepted", steer={}) == []
    assert talk.get(ENDED, of="r1") == ["chunk one", "end one"]


def test_what_is_open_is_what_runs_and_what_waits() -> None:
    talk = Talk()
    talk.create("one", "a")
    talk.create("two", "a")
    talk.create("three", "b")
    talk.get("response.created", "a", of="r1")
    assert sorted(turn.call or "" for turn in talk.lanes.open()) == ["one", "three", "two"]


def test_a_connection_at_rest_holds_no_settings_and_few_lanes() -> None:
    talk = Talk()
    turns = []
    for number in range(1000):
        turns.append(talk.lanes.create({"stream_id": f"lane {number}", "instructions": "long"}, "one"))
        talk.get("response.created", f"lane {number}", of=f"r{number}")
        talk.get(ENDED, f"lane {number}", of=f"r{number}")
    assert not any(turn.settings for turn in turns)
    assert len(talk.lanes._lanes) <= 64


def test_anything_may_be_received() -> None:
    talk = Talk()
    for event in ({}, {"type": None}, {"type": []}, {"type": "response.created"}, {"type": "response.created"}):
        talk.lanes.received(event)
    for event in ({"type": "error", "stream_id": 7}, {"type": "response.steer.failed", "steer": 1}):
        talk.lanes.received(event)
    talk.lanes.steer({"previous_response_id": {}, "input": None})
