"""The scripted provider speaks Responses over websockets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.provider import FullProvider

from callspan.testing import Reply, ScriptedProvider

exceptions = pytest.importorskip("websockets.exceptions")
ENDS = ("response.completed", "response.failed", "response.incomplete", "error")


@contextlib.contextmanager
def connected(provider: ScriptedProvider) -> Iterator[Any]:
    with (
        openai.OpenAI(base_url=provider.openai_url, api_key="any") as client,
        client.responses.connect() as connection,
    ):
        yield connection


def create(connection: Any, **fields: Any) -> None:
    connection.send({"type": "response.create", "model": "gpt-5", "input": "Hi", **fields})


def until_end(connection: Any) -> list[Any]:
    events = []
    while not events or events[-1].type not in ENDS:
        events.append(connection.recv())
    return events


def test_a_create_is_answered_with_the_events_of_a_stream(provider: ScriptedProvider) -> None:
    provider.reply(text="I am well.")
    with connected(provider) as connection:
        create(connection)
        events = until_end(connection)
    assert [event.type for event in events][:2] == ["response.created", "response.in_progress"]
    assert events[-1].response.output_text == "I am well."
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [(request.method, request.path) for request in provider.requests] == [
        ("GET", "/v1/responses"),
        ("WEBSOCKET", "/v1/responses"),
    ]


def test_lanes_have_their_own_order(provider: ScriptedProvider) -> None:
    provider.reply(text="Slow.", chunk_delay_s=0.05, on=lambda request: request.body.get("input") == "slow")
    provider.reply(text="First.", on=lambda request: request.body.get("input") == "one")
    provider.reply(text="Second.", on=lambda request: request.body.get("input") == "two")
    with connected(provider) as connection:
        create(connection, input="slow")
        create(connection, input="one", stream_id="a")
        create(connection, input="two", stream_id="a")
        ended: list[Any] = []
        while len(ended) < 3:
            ended += [event for event in until_end(connection) if event.type in ENDS]
    assert [event.response.output_text for event in ended if event.stream_id == "a"] == ["First.", "Second."]
    assert [event.response.output_text for event in ended if event.stream_id is None] == ["Slow."]


def test_steering_ends_a_response_and_a_successor_follows(provider: ScriptedProvider) -> None:
    provider.reply(text="A long story.", steer_after=4)
    provider.reply(text="Short.")
    with connected(provider) as connection:
        create(connection)
        first = connection.recv().response
        connection.response.steer(previous_response_id=first.id, input="Be brief.")
        parent, successor = until_end(connection), until_end(connection)
    assert "response.steer.accepted" in [event.type for event in parent]
    assert parent[-1].response.incomplete_details.reason == "steered"
    assert successor[0].type == "response.created"
    assert successor[-1].response.previous_response_id == first.id
    assert successor[-1].response.output_text == "Short."
    assert len(provider.requests) == 2  # the successor was not requested


def test_steering_what_has_ended_fails(provider: ScriptedProvider) -> None:
    with connected(provider) as connection:
        create(connection)
        ended = until_end(connection)[-1]
        connection.response.steer(previous_response_id=ended.response.id, input="Be brief.")
        failed = connection.recv()
    assert (failed.type, failed.error.code, failed.steer.input) == (
        "response.steer.failed",
        "response_not_found",
        "Be brief.",
    )


def test_input_is_injected_into_what_runs(provider: ScriptedProvider) -> None:
    provider.reply(text="Well.", first_token_delay_s=5)
    with connected(provider) as connection:
        create(connection)
        response = connection.recv().response
        seen = []
        for response_id in (response.id, "resp_missing"):
            connection.send({"type": "response.inject", "response_id": response_id, "input": []})
            while not seen or response_id != seen[-1].response_id:
                event = connection.recv()
                seen += [event] if event.type.startswith("response.inject") else []
    assert [event.type for event in seen] == ["response.inject.created", "response.inject.failed"]


def test_an_error_has_status_and_headers(provider: ScriptedProvider) -> None:
    provider.reply(status=429, retry_after_s=2)
    with connected(provider) as connection:
        create(connection, stream_id="a")
        event = connection.recv()
    assert (event.type, event.status, event.stream_id) == ("error", 429, "a")
    assert (event.error.code, event.error.headers["retry-after"]) == ("rate_limit_exceeded", "2")


def test_a_missing_response_cannot_be_continued(provider: ScriptedProvider) -> None:
    with connected(provider) as connection:
        create(connection, previous_response_id="resp_missing")
        event = connection.recv()
    assert (event.status, event.error.code) == (400, "previous_response_not_found")


@pytest.mark.parametrize(
    ("reply", "seen", "raised"),
    [
        (Reply(text="Well.", cut_after=3), 3, "ConnectionClosedError"),
        (Reply(text="Well.", body_cut=True), 1, "ConnectionClosedError"),
        (Reply(text="Well.", end_after=2), 2, "ConnectionClosedOK"),
    ],
)
def test_connections_are_cut_and_closed_as_scripted(
    provider: ScriptedProvider, reply: Reply, seen: int, raised: str
) -> None:
    provider.reply(reply)
    with connected(provider) as connection:
        create(connection)
        for _ in range(seen):
            connection.recv()
        with pytest.raises(exceptions.ConnectionClosed) as caught:
            connection.recv()
    assert type(caught.value).__name__ == raised


def test_a_warm_up_has_no_output(provider: ScriptedProvider) -> None:
    with connected(provider) as connection:
        create(connection, generate=False)
        response = until_end(connection)[-1].response
    assert (response.output, response.usage.output_tokens) == ([], 0)


def test_events_and_bytes_are_sent_as_given(provider: ScriptedProvider) -> None:
    provider.reply(raw=[{"type": "response.created", "response": {"id": "r"}}, {"type": "of.tomorrow"}])
    provider.reply(raw=b"\x00\x01")
    with connected(provider) as connection:
        create(connection)
        assert [connection.recv().type, connection.recv().type] == ["response.created", "of.tomorrow"]
        create(connection)
        assert connection.recv_bytes() == b"\x00\x01"


def test_a_connection_can_be_refused(provider: ScriptedProvider) -> None:
    provider.reply(status=401, on=lambda request: request.is_upgrade)
    with pytest.raises(exceptions.InvalidStatus), connected(provider):
        pass
    assert provider.pending == 0


def test_a_client_that_reads_nothing_and_closes_is_no_failure_of_the_provider() -> None:
    for _ in range(5):
        with FullProvider() as provider:
            provider.reply(text="one two three", repeat=True)
            with connected(provider) as connection:
                create(connection)
