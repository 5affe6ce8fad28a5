"""Why the prompt cache missed: generated histories with their truth, and what no generator makes."""

from __future__ import annotations

import gzip
import json
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support import cached_prompts
from tests.support.bodies import APIS, endpoint, folded
from tests.support.records import SECOND, START_NS, Delivery, Records, raw
from tests.support.scale import FULL, scaled
from tests.wire import wires_oracle
from tests.wire.corpus import MORE, OTHERS, SAMPLE, STREAMED, WHOLE, chunks

from callspan.records import CallRecord, Place, Redaction, Request, Response, Timing, Usage
from callspan.stores import CacheUse, CallFilter

from .conftest import PieceReader, Sent, Turn, cache_use, pricer_for

API_OF = {
    "messages": ("anthropic", "messages"), "converse": ("aws.bedrock", "converse"),
    "chat": ("openai", "chat_completions"), "responses": ("openai", "responses"), "newer": ("openai", "responses"),
    "gemini": ("gcp.gemini", "generate_content"),
}  # fmt: skip


def record_of(call: cached_prompts.Call, session_id: str) -> CallRecord:
    """A call as it is recorded."""
    provider, api = API_OF[call.wire]
    usage = None
    if call.input is not None:
        usage = Usage(
            input_tokens=call.input, output_tokens=9, cache_read_tokens=call.read, cache_write_tokens=call.written
        )
    return CallRecord(
        call_id=f"{session_id}-{call.number:03}",
        provider=provider,
        api=api,
        place=Place(session_id=session_id),
        request=Request(model=call.model, continues=call.continues, body=raw(call.body)),
        response=Response(id=call.response_id, cached="litellm" if call.truth.cause == "gateway" else None),
        usage=usage,
        timing=Timing(start_ns=round(call.start_s * SECOND), duration_ns=round(call.took_s * SECOND)),
        outcome=call.outcome,  # type: ignore[arg-type]
    )


def turn_of(record: CallRecord) -> Turn:
    usage, response = record.usage or Usage(), record.response or Response()
    return Turn(
        record.call_id, record.place.session_id, record.provider, record.api, record.model, record.outcome,
        record.timing.start_ns, record.timing.first_token_ns, record.timing.duration_ns, usage.input_tokens,
        usage.cache_read_tokens, usage.cache_write_tokens, response.cached, response.prompt_cache_miss,
        record.batch_id, response.id, record.request.continues, record.place.previous_call_id,
    )  # fmt: skip


def unpriced(call: CallRecord) -> CallRecord:
    return call


def uses_of(records: list[CallRecord], price: Callable[[CallRecord], CallRecord] = unpriced) -> list[CacheUse]:
    """What each of the calls of a session read, without a store."""
    pieces = PieceReader()
    by_id = {record.call_id: record for record in records}

    def read(turn: Turn) -> Sent:
        return pieces.sent(by_id[turn.call_id], by_id[turn.call_id].request.body)

    turns = [turn_of(record) for record in records]
    return [cache_use(turn, turns[:number], read, price, around=24) for number, turn in enumerate(turns)]


def difference(call: cached_prompts.Call, use: CacheUse) -> str | None:
    """What is named in another way than it was made."""
    truth = call.truth
    if truth.cause in ("failed", "gateway"):
        wanted = "answered by a gateway's cache" if truth.cause == "gateway" else "states nothing about its cache"
        return None if use.cause == wanted else f"{use.cause}, not {wanted}"
    if (use.cause, use.lost_tokens) != (truth.cause, truth.lost):
        return f"{use.cause} {use.lost_tokens}, not {truth.cause} {truth.lost}"
    if truth.cause in ("expired", "unknown") and use.is_certain != truth.is_certain:
        return f"{use.cause} is certain: {use.is_certain}"
    if truth.place is not None:
        section, number, block = truth.place
        place = f"{section}[{number}]" + (f".content[{block}]" if section == "messages" else "")
        if use.place != place and not (call.wire == "chat" and section == "system"):
            return f"{use.place}, not {place}"
    return None


@pytest.mark.parametrize("wire", cached_prompts.WIRES)
def test_causes_places_and_lost_tokens_of_generated_histories(wire: cached_prompts.Wire) -> None:
    wrong = []
    for seed in range(scaled(50, 1667)):
        calls = cached_prompts.history(wire, seed)
        for call, use in zip(calls, uses_of([record_of(call, "s") for call in calls]), strict=True):
            if (found := difference(call, use)) is not None:
                wrong.append((wire, seed, call.number, found))
    assert wrong == []


TOOLS = [{"name": f"tool_{number}", "description": "x" * 90, "input_schema": {"type": "object"}} for number in range(3)]
MARK = {"cache_control": {"type": "ephemeral"}}
LONG = "You help people who plan their journeys. " * 40


def text(words: str, **fields: object) -> dict[str, object]:
    return {"type": "text", "text": words, **fields}


def asked(number: int, *messages: object, read: int | None = 0, written: int | None = 0, **fields: Any) -> CallRecord:
    """A call of one session to Anthropic, the next some seconds after the one before."""
    total = fields.pop("total", 5000)
    at_s, session_id = fields.pop("at_s", 20 * number), fields.pop("session_id", "s1")
    body = {
        "model": "claude-sonnet-4-5", "tools": TOOLS, "system": [text(LONG, **MARK)],
        "messages": [{"role": "user", "content": message} for message in messages], **fields.pop("body", {}),
    }  # fmt: skip
    given: dict[str, Any] = {
        "provider": "anthropic",
        "api": "messages",
        "place": Place(session_id=session_id),
        "request": Request(model="claude-sonnet-4-5", body=raw(body)),
        "response": Response(),
        "usage": Usage(input_tokens=total, output_tokens=10, cache_read_tokens=read, cache_write_tokens=written),
        "timing": Timing(start_ns=START_NS + at_s * SECOND, duration_ns=SECOND),
    }
    return CallRecord(call_id=f"call-{number}", **(given | fields))


def marked(words: str) -> list[object]:
    return [text(words, **MARK)]


FIRST = asked(0, marked("Hi"), written=4000)


def causes(*records: CallRecord) -> list[str]:
    return [use.cause for use in uses_of([*records])]


def test_a_call_that_failed_or_was_served_by_a_gateway_leaves_nothing() -> None:
    failed = asked(1, marked("Other"), outcome="error", usage=None)
    served = asked(2, marked("Other"), response=Response(cached="helicone"), usage=None)
    assert causes(FIRST, failed, served, asked(3, "Hi", marked("And?"), read=4000)) == [
        "first", "states nothing about its cache", "answered by a gateway's cache", "hit",
    ]  # fmt: skip


def test_a_hit_is_all_that_was_left_to_the_last_token() -> None:
    one_less = uses_of([FIRST, asked(1, "Hi", marked("And?"), read=3999, written=900)])[1]
    assert (one_less.cause, one_less.expected_tokens, one_less.lost_tokens) == ("unknown", 4000, 1)
    assert not one_less.is_certain
    assert causes(FIRST, asked(1, "Hi", marked("And?"), read=4000)) == ["first", "hit"]


def test_what_was_not_written_or_is_too_short_is_no_loss() -> None:
    assert causes(asked(0, "Hi"), asked(1, "Hi", "And?")) == ["first", "none was written"]
    short = {"provider": "openai", "api": "chat_completions", "total": 1023, "written": None}
    uses = uses_of([asked(0, "Hi", **short), asked(1, "Other", **short)])
    assert [(use.cause, use.lost_tokens) for use in uses] == [("first", None), ("shorter than the least", None)]


@pytest.mark.parametrize(
    ("usage", "cause"),
    [
        (None, "states nothing about its cache"),
        (Usage(input_tokens=5000, output_tokens=9), "states nothing about its cache"),
        (Usage(input_tokens=0, output_tokens=0, cache_read_tokens=0), "states nothing about its cache"),
        (Usage(output_tokens=9, cache_read_tokens=0), "states nothing about its cache"),
        (Usage(input_tokens=3, cache_read_tokens=4000, cache_write_tokens=0), "hit"),
    ],
)
def test_usage_that_does_not_state_the_cache_is_said_to(usage: Usage | None, cause: str) -> None:
    use = uses_of([FIRST, asked(1, "Hi", marked("And?"), usage=usage)])[1]
    assert (use.cause, use.lost_tokens) == (cause, 0 if cause == "hit" else None)


def test_a_batch_has_no_order() -> None:
    assert causes(FIRST, asked(1, "Other", batch_id="b1"), asked(2, "Hi", marked("And?"), read=4000)) == [
        "first", "batch", "hit",
    ]  # fmt: skip


def test_an_api_whose_cache_no_page_describes_is_not_compared() -> None:
    spoken = {"provider": "openai", "api": "realtime"}
    assert causes(asked(0, "Hi", **spoken), asked(1, "Other", **spoken)) == ["not compared", "not compared"]


def test_two_calls_at_once_leave_each_other_nothing() -> None:
    at_once = asked(1, marked("Hi"), at_s=0, written=4000)
    assert causes(FIRST, at_once) == ["first", "first"]


def test_a_cut_body_and_content_that_was_not_kept_say_what_the_provider_says() -> None:
    cut = asked(1, request=Request(model="claude-sonnet-4-5", body=msgspec.Raw(b'{"messages": [')))
    withheld = asked(1, content_level="off", request=Request(model="claude-sonnet-4-5"))
    redacted = asked(1, "Hi", redactions=[Redaction(what="request.body", why="redactor")])
    for record in (cut, withheld, redacted):
        stated = msgspec.structs.replace(record, response=Response(prompt_cache_miss="system_changed"))
        use = uses_of([FIRST, stated])[1]
        assert (use.cause, use.stated, use.lost_tokens, use.before) == ("no content", "system_changed", None, None)


def test_the_excerpt_has_24_characters_on_each_side() -> None:
    system = f"{LONG}It is 15:09:00. {LONG}"
    first = asked(0, marked("Hi"), written=4000, body={"system": system})
    use = uses_of([first, asked(1, "Hi", marked("And?"), body={"system": system.replace("09:00", "09:14")})])[1]
    at = len(LONG) + len("It is 15:09:")
    assert (use.cause, use.place, use.at_byte) == ("system: changed", "system[0]", at)
    assert use.before == f"…{system[at - 24 : at + 24]}…"
    assert use.after == f"…{system[at - 24 : at]}14. {LONG[:20]}…"


def test_places_are_counted_in_bytes_and_survive_what_is_no_text() -> None:
    body = b'{"messages": [{"role": "user", "content": "\\u00fc\\u0000\\ud83d %s"}, {"role": "user", "content": "x"}]}'
    first, second = (
        asked(number, request=Request(model="m", body=msgspec.Raw(body % words)), written=4000)
        for number, words in enumerate((b"a", b"b"))
    )
    use = uses_of([first, second])[1]
    assert (use.cause, use.place) == ("messages: an earlier one was changed", "messages[0].content[0]")
    assert use.at_byte == len("ü\0\ufffd ".encode())
    assert (use.before, use.after) == ("ü\0\ufffd a", "ü\0\ufffd b")


def any_json(rng: random.Random, depth: int = 0) -> Any:
    """Any value, with the words that requests have."""
    if rng.random() < 0.3 + 0.2 * depth:
        return rng.choice([None, 0, -1.5, True, "", "user", "system", "text", "a\ud83d", "\0", [], {}])
    if rng.random() < 0.4:
        return [any_json(rng, depth + 1) for _ in range(rng.randrange(4))]
    words = "role content parts text type name function toolSpec functionDeclarations cache_control cachePoint ttl"
    return {word: any_json(rng, depth + 1) for word in rng.sample(words.split(), rng.randrange(5))}


def test_any_body_is_compared_without_an_exception() -> None:
    rng = random.Random(1)
    fields = sorted({field.partition(".")[0] for row in APIS.values() for field in row.prefix} | {"cache_control"})
    for number in range(scaled(400, 20_000)):
        records = []
        for turn in range(3):
            body = json.dumps({field: any_json(rng) for field in rng.sample(fields, 7)}).encode()
            body = body[: rng.randrange(len(body))] if rng.random() < 0.1 else body
            counted = Usage(
                input_tokens=rng.choice([None, 0, 1, 5000]), cache_read_tokens=rng.choice([None, 0, 4000, 9000]),
                cache_write_tokens=rng.choice([None, 0, 1000]),
            )  # fmt: skip
            provider, api = rng.choice([*API_OF.values(), ("ollama", "ollama_chat"), ("openai", "none")])
            request = Request(body=msgspec.Raw(body))
            records.append(asked(turn, provider=provider, api=api, request=request, usage=counted))
        for use in uses_of(records):
            allowed = max((use.input_tokens or 0) - (use.read_tokens or 0), 0)
            assert 0 <= (use.lost_tokens or 0) <= allowed, (number, use)


def test_two_thousand_messages_are_compared() -> None:
    messages = [f"message {number}" for number in range(2000)]
    changed = [*messages[:1200], "message 1200 was cut", *messages[1201:], marked("Next")]
    use = uses_of([asked(0, *messages, marked("Last"), written=4000), asked(1, *changed)])[1]
    assert (use.cause, use.place) == ("messages: an earlier one was changed", "messages[1200].content[0]")


def test_two_models_in_turn_read_what_each_left() -> None:
    other = {"request": Request(model="claude-opus-4-1", body=asked(9, "Hi", marked("And?")).request.body)}
    records = [FIRST, asked(1, written=4100, **other), asked(2, "Hi", "And?", marked("So?"), read=4000, written=400)]
    uses = uses_of(records)
    assert [use.cause for use in uses] == ["first", "model: changed", "hit"]
    assert uses[2].previous_call_id == "call-0"


def test_a_response_is_continued_by_its_id() -> None:
    openai = {"provider": "openai", "api": "responses", "written": None}

    def said(number: int, words: str, **fields: Any) -> CallRecord:
        body = {"instructions": LONG, "input": words, "previous_response_id": fields.pop("continues", None)}
        request = Request(model="gpt-5", continues=body["previous_response_id"], body=raw(body))
        return asked(number, request=request, response=Response(id=f"r{number}"), **openai, **fields)

    first, second = said(0, "Hi"), said(1, "And?", continues="r0", read=4992)
    assert causes(first, second, said(2, "So?", continues="r1", read=4864)) == ["first", "hit", "unknown"]
    assert causes(first, second, said(2, "So?", continues="r0", read=4864))[2] == "unknown"
    elsewhere = said(3, "So?", continues="elsewhere", read=0)
    assert causes(first, elsewhere)[1] == "first"


def test_lost_money_is_the_exact_difference_of_two_prices(tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(
        '{"models": {"claude-sonnet-4-5": {"input": "3", "output": "15", "cache_read": "0.3", "cache_write": "3.75"}}}'
    )
    pricer = pricer_for(prices)
    usage = Usage(input_tokens=5000, output_tokens=10, cache_read_tokens=1000, cache_write_tokens=3500)
    second = asked(1, "Hi", marked("And?"), usage=usage, body={"system": f"Now. {LONG}"})
    (_, use) = uses_of([FIRST, second], pricer.priced)
    assert (use.lost_tokens, use.lost_usd, use.lost_usd_estimated) == (
        3000,
        Decimal("3000") * Decimal("0.00000345"),
        False,
    )
    (_, stated) = uses_of([FIRST, replaced_usage(second, cost_usd=Decimal(1))], pricer.priced)
    assert (stated.lost_usd, stated.lost_usd_estimated) == (use.lost_usd, True)
    unpriced = msgspec.structs.replace(second, request=msgspec.structs.replace(second.request, model="own-model"))
    assert uses_of([FIRST, unpriced], pricer.priced)[1].lost_usd is None


def replaced_usage(record: CallRecord, **fields: object) -> CallRecord:
    assert record.usage is not None
    return msgspec.structs.replace(record, usage=msgspec.structs.replace(record.usage, **fields))


def test_a_reader_says_the_same_of_every_store(store: Delivery) -> None:
    records = [
        record_of(call, f"{wire}-{seed}")
        for wire in cached_prompts.WIRES
        for seed in range(2)
        for call in cached_prompts.history(wire, seed)
    ]
    alone = asked(0, marked("Hi"), session_id=None)
    store.write(*records, alone)
    reader = store.read()
    told = {use.call_id: use for use in reader.prompt_cache(price=unpriced)}
    assert told.pop("call-0").cause == "first"
    by_session: dict[str | None, list[CallRecord]] = {}
    for record in records:
        by_session.setdefault(record.place.session_id, []).append(record)
    for session_id, of_session in by_session.items():
        wanted = {use.call_id: use for use in uses_of(of_session)}
        assert {call_id: told[call_id] for call_id in wanted} == wanted
        last = of_session[-1]
        selection = CallFilter(session_id=session_id, since_ns=last.timing.start_ns)
        assert [*reader.prompt_cache(selection, unpriced)][-1] == wanted[last.call_id]


def test_calls_of_a_run_are_compared_though_nobody_opened_a_session(store: Delivery, records: Records) -> None:
    if store.url.startswith("clickhouse"):
        pytest.skip("ClickHouse has no runs")
    system, ask = {"role": "system", "content": LONG}, {"role": "user", "content": "Where shall I go this summer?"}
    answer = "To the mountains, where it is cool and quiet."
    again = [{"role": "assistant", "content": answer}, {"role": "user", "content": "And in winter?"}]
    counted = Usage(input_tokens=2000, output_tokens=9, cache_read_tokens=0)
    store.write(
        records.call([system, ask], answer, call_id="c1", usage=counted),
        records.call([system, ask, *again], call_id="c2", at_s=9, model="gpt-5-mini", usage=counted),
    )
    first, second = store.read().prompt_cache()
    assert (first.cause, second.cause, second.previous_call_id) == ("first", "model: changed", "c1")


def test_damaged_contents_are_no_content(deliver: Callable[[str], Delivery], sqlite_url: str) -> None:
    store = deliver(sqlite_url)
    store.write(FIRST, asked(1, marked("Other")), asked(2, "Hi", marked("And?")))
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE contents SET data = x'0102' WHERE data IS NOT NULL")
    assert [use.cause for use in store.read().prompt_cache()] == ["first", "no content", "none was written"]


def test_an_empty_store_and_an_unknown_session_have_no_calls(store: Delivery) -> None:
    reader = store.read()
    assert [*reader.prompt_cache()] == []
    assert [*reader.prompt_cache(CallFilter(session_id="nowhere"))] == []


@pytest.mark.parametrize("name", [SAMPLE, OTHERS, WHOLE, MORE], ids=lambda path: path.name)
def test_recorded_pairs_lose_no_more_than_their_usage_allows(name: Path) -> None:
    if not name.is_file() or (name in (WHOLE, MORE) and not FULL):
        pytest.skip("needs the recorded exchanges, at full scale")
    by_group: dict[tuple[str, ...], list[CallRecord]] = {}
    for number, line in enumerate(gzip.decompress(name.read_bytes()).splitlines()):
        exchange = json.loads(line)
        record = recorded_exchange(exchange, number)
        if record is not None and record.usage is not None and record.usage.cache_read_tokens is not None:
            by_group.setdefault((exchange["source"].partition("#")[0], record.api), []).append(record)
    assert by_group
    for records in by_group.values():
        for use in uses_of(records):
            allowed = (use.input_tokens or 0) - (use.read_tokens or 0)
            assert 0 <= (use.lost_tokens or 0) <= max(allowed, 0), use


def recorded_exchange(exchange: dict[str, Any], number: int) -> CallRecord | None:
    """One exchange as a call of a session; None if it is no answered call of an API with a prompt cache."""
    api = exchange["endpoint"].removesuffix("_stream")
    body, text = exchange["request"], exchange["body"]
    if (
        api not in ("converse", "generate_content", *STREAMED)
        or not isinstance(body, dict)
        or exchange["status"] != 200
    ):
        return None
    if exchange["stream"] or not text.lstrip().startswith("{"):
        answer = folded(api, *(chunks(text) if api in STREAMED else wires_oracle.events(exchange)))
    else:
        answer = json.loads(text)
    info = endpoint(api).response_info(answer)
    provider = {"api.openai.com": "openai", "api.anthropic.com": "anthropic"}.get(exchange["host"], exchange["host"])
    return asked(
        number,
        provider=provider,
        api=api,
        request=Request(model=exchange["model"], body=raw(body)),
        response=Response(id=info.response.id),
        usage=info.usage,
    )
