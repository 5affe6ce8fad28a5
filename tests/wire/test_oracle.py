"""The oracle is independent and reads the corpus correctly."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

from tests.wire import corpus, facts, folding, oracle, sse
from tests.wire.corpus import Exchange

HERE = Path(__file__).parent
INDEPENDENT = ("corpus", "sse", "facts", "folding", "oracle", "entries", "replay")


@pytest.mark.parametrize("name", INDEPENDENT)
def test_the_oracle_and_what_it_uses_import_nothing_of_callspan(name: str) -> None:
    tree = ast.parse((HERE / f"{name}.py").read_text("utf-8"))
    imported = {each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {module for module in imported if module.split(".")[0] == "callspan"}
    ours = {module.removeprefix("tests.wire.") for module in imported if module.startswith("tests.wire.")}
    assert ours <= set(INDEPENDENT)


def exchange(endpoint: str, body: str, *, stream: bool = False, status: int | None = 200) -> Exchange:
    return Exchange("x", "", "POST", "h", "/v1/x", endpoint, None, stream, {"model": "m"}, status, {}, body)


def test_events_follow_the_standard_on_line_ends_comments_and_many_data_lines() -> None:
    text = ": hello\r\nevent: a\r\ndata: 1\r\ndata:2\r\n\r\nid: 7\ndata: 3\n\ndata: never ended"
    assert [(event.name, event.data) for event in sse.events(text)] == [("a", "1\n2"), ("message", "3")]


def test_chunks_end_at_done_and_leave_pings_out() -> None:
    text = 'event: ping\ndata: {"type": "ping"}\n\ndata: {"a": 1}\n\ndata: [DONE]\n\ndata: {"b": 2}\n\n'
    assert list(sse.chunks(text)) == [{"a": 1}]


def test_fragments_of_interleaved_tool_calls_find_their_call_by_index() -> None:
    def chunk(index: int, **function: str) -> dict[str, object]:
        head = {"id": f"call_{index}"} if "name" in function else {}
        return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": index, **head, "function": function}]}}]}

    pieces = [
        chunk(0, name="f", arguments=""),
        chunk(1, name="g", arguments="{"),
        chunk(0, arguments="[]"),
        chunk(1, arguments="}"),
    ]
    calls = folding.fold("chat_completions", pieces)["choices"][0]["message"]["tool_calls"]
    assert [(call["id"], call["function"]) for call in calls] == [
        ("call_0", {"name": "f", "arguments": "[]"}),
        ("call_1", {"name": "g", "arguments": "{}"}),
    ]


def test_anthropic_input_is_the_sum_of_fresh_read_and_written() -> None:
    usage = '{"input_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": null, "output_tokens": 2}'
    found = oracle.truth(exchange("messages", f'{{"type": "message", "content": [], "usage": {usage}}}'))
    assert (found.input_tokens, found.cache_read_tokens, found.cache_write_tokens, found.total_tokens) == (
        8,
        5,
        None,
        10,
    )


def test_an_exchange_that_has_no_response_states_its_request_only() -> None:
    found = oracle.truth(exchange("chat_completions", "", status=None))
    assert found == facts.Facts(api="chat_completions", stream=False, request_model="m")


def test_verdicts_distinguish_absent_wrong_and_spurious() -> None:
    assert [facts.judge(*pair) for pair in [(1, 1), (1, 2), (1, None), (None, 0), (None, ()), (1, 1.0)]] == [
        "right", "wrong", "absent", "spurious", None, "wrong",
    ]  # fmt: skip


def test_every_exchange_is_read_and_answers_of_models_state_their_model(exchanges: tuple[Exchange, ...]) -> None:
    """Anchors of the corpus, counted over the raw text and not by the oracle."""
    read = [(each, oracle.truth(each)) for each in exchanges]
    assert len(read) == (961 if corpus.IS_WHOLE else 221)
    complete = [found for each, found in read if each.status == 200 and each.inference and each.body]
    # Three compactions, Ollama's native embedding, Writer's bare stream and an error under status 200 name no model.
    assert sum(found.response_model is None for found in complete) == 6
    # 22 by their status, one within a stream, one in a body under status 200.
    assert sum(found.error_type is not None for _, found in read) == 24


def test_the_deltas_of_a_responses_stream_add_up_to_its_terminal_event(exchanges: tuple[Exchange, ...]) -> None:
    for each in exchanges:
        if each.endpoint != "responses" or not each.stream or each.status != 200:
            continue
        deltas = [chunk for chunk in sse.chunks(each.body) if chunk["type"] == "response.output_text.delta"]
        assert "".join(str(chunk["delta"]) for chunk in deltas) == "".join(
            text for texts in oracle.truth(each).texts for text in texts
        ), each.id


def test_no_fact_is_vacuous_every_one_is_reported_by_some_exchange(exchanges: tuple[Exchange, ...]) -> None:
    read = [oracle.truth(each) for each in exchanges]
    stated = {name for found in read for name in facts.NAMES if facts.judge(getattr(found, name), None) is not None}
    assert set(facts.NAMES) - stated == set()


@pytest.mark.parametrize("name", facts.NAMES)
def test_a_fact_that_is_lost_or_changed_does_not_pass(name: str, exchanges: tuple[Exchange, ...]) -> None:
    """Takes an exchange that states the fact, and hands in a reading without it and one with another value."""
    each, wire = next(
        (each, found) for each in exchanges if getattr(found := oracle.truth(each), name) not in (None, ())
    )
    score = facts.Score()
    for value in (getattr(facts.Facts(), name), "something else"):
        score.add(each.id, wire, dataclasses.replace(wire, **{name: value}))
    assert [difference.fact for difference in score.differences] == [name, name]
    assert [difference.verdict for difference in score.differences] == ["absent", "wrong"]
