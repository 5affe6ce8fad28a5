"""`callspan cache` and the line of `show`: sums, causes, calls of a session, `--json`, without texts."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.support.commands import ask
from tests.support.records import SECOND, START_NS, keep, made, raw

from callspan import formatting
from callspan.records import CallRecord, Place, Redaction, Request, Response, Timing, Usage

INSTRUCTIONS = "You plan journeys for people who do not like to plan. " * 50


def call(number: int, clock: str, read: int | None, *, session_id: str | None = "s1", **fields: Any) -> CallRecord:
    """A call of a session whose instructions begin with the time."""
    said = [{"role": "user", "content": f"question {each}"} for each in range(number + 1)]
    body = {"model": "claude-sonnet-4-5", "system": f"It is {clock}. {INSTRUCTIONS}", "messages": said}
    total = 3000 + 100 * number
    written = None if read is None else total - read
    given: dict[str, Any] = {
        "provider": "anthropic",
        "api": "messages",
        "place": Place(session_id=session_id),
        "request": Request(model="claude-sonnet-4-5", body=raw(body)),
        "usage": Usage(input_tokens=total, output_tokens=10, cache_read_tokens=read, cache_write_tokens=written),
        "timing": Timing(start_ns=START_NS + 20 * number * SECOND, duration_ns=SECOND),
    }
    return made(f"call-{number}", **(given | fields))


CALLS = (call(0, "9:00", 0), call(1, "9:00", 3000), call(2, "9:14", 0), call(3, "9:15", 0))
SILENT = call(4, "9:15", None, session_id=None)


def test_causes_are_summed_with_tokens_money_and_both_texts(store: str) -> None:
    answer = ask("--store", keep(store, *CALLS, SILENT), "cache")
    lines = answer.out.splitlines()
    assert lines[0] == (
        "3,000 of 12,600 input tokens were read from the cache (24 %); 6,300 more could have been: $0.0217"
    )
    assert lines[1].split() == ["calls", "tokens", "cost", "what", "broke", "the", "prefix", "first", "seen", "there"]
    assert lines[2].startswith('    2   6,300  $0.0217  system: changed        call-2      system[0]: "It is 9:00')
    assert lines[3:] == ["not counted: 1 call whose usage does not mention the cache"]


def test_money_is_a_lower_bound_if_a_price_is_unknown(store: str) -> None:
    own = msgspec.structs.replace(CALLS[2].request, model="own-model")
    url = keep(store, *CALLS[:2], msgspec.structs.replace(CALLS[2], request=own), CALLS[3])
    told = " ".join(ask("--store", url, "cache").out.split())
    assert "6,300 more could have been: at least $0.011" in told
    assert "2 6,300 at least $0.011 model: changed" in told


def test_money_is_marked_where_it_is_an_estimate(store: str) -> None:
    """The provider states the cost of a call: what it would have been with other tokens can only be computed."""
    usage = msgspec.structs.replace(CALLS[2].usage, cost_usd=Decimal(1))
    url = keep(store, *CALLS[:2], msgspec.structs.replace(CALLS[2], usage=usage))
    told = " ".join(ask("--store", url, "cache").out.split())
    assert "could have been: $0.0107, estimated" in told
    assert "1 3,100 $0.0107, estimated system: changed" in told
    assert "3,100 lost: $0.0107, estimated" in " ".join(ask("--store", url, "show", "call-2").out.split())
    sums = ask("--store", url, "--json", "cache").json
    assert (sums["lost_usd_estimated"], sums["causes"][0]["lost_usd_estimated"]) == (True, True)


def test_json_has_the_sums_and_the_first_call_of_each_cause(store: str) -> None:
    told = ask("--store", keep(store, *CALLS, SILENT), "--json", "cache").json
    (cause,) = told.pop("causes")
    assert told == {
        "calls": 5, "calls_that_state_nothing": 1, "input_tokens": 12600, "read_tokens": 3000, "lost_tokens": 6300,
        "lost_usd": "0.021735", "lost_usd_estimated": False,
    }  # fmt: skip
    first = cause.pop("first")
    assert cause == {
        "cause": "system: changed", "calls": 2, "lost_tokens": 6300, "lost_usd": "0.021735",
        "lost_usd_estimated": False,
    }  # fmt: skip
    wanted = {
        "call_id": "call-2", "previous_call_id": "call-1", "cause": "system: changed", "place": "system[0]",
        "at_byte": len("It is 9:"), "lost_tokens": 3100, "lost_usd": "0.010695", "is_certain": True,
    }  # fmt: skip
    assert {name: first[name] for name in wanted} == wanted
    assert (first["before"][:14], first["after"][:14]) == ("It is 9:00. Yo", "It is 9:14. Yo")


def test_a_session_has_a_line_for_each_call(store: str) -> None:
    url = keep(store, *CALLS)
    rows = ask("--store", url, "cache", "s1").out.splitlines()
    assert [row.split()[0] for row in rows[1:]] == ["call-0", "call-1", "call-2", "call-3"]
    assert ["first" in rows[1], "hit" in rows[2], "system: changed" in rows[3]] == [True, True, True]
    listed = ask("--store", url, "cache", "s1", "--json", "--limit", "3").json
    assert [row["cause"] for row in listed] == ["first", "hit", "system: changed"]


def test_without_texts_no_word_of_a_request_is_shown(store: str) -> None:
    url = keep(store, *CALLS)
    for arguments in (["cache"], ["cache", "s1"], ["cache", "--json"], ["cache", "s1", "--json"]):
        assert "It is" in ask("--store", url, *arguments).out or arguments == ["cache", "s1"]
        told = ask("--store", url, *arguments, "--no-text").out
        assert "system: changed" in told
        assert "It is" not in told


def test_a_filter_selects_calls_and_not_what_they_are_compared_with(store: str) -> None:
    url = keep(store, *CALLS)
    since = formatting.iso(CALLS[2].timing.start_ns) or ""
    told = ask("--store", url, "cache", "--json", "--until", since).json
    assert (told["calls"], told["causes"]) == (2, [])
    told = ask("--store", url, "cache", "--json", "--since", since).json
    assert (told["calls"], [cause["calls"] for cause in told["causes"]]) == (2, [2])


def test_show_has_one_line_about_the_cache(store: str) -> None:
    url = keep(store, *CALLS, SILENT)
    shown = " ".join(ask("--store", url, "show", "call-2").out.split())
    assert "cache 0 of 3,200 tokens; system: changed at byte 8 of system[0] since call-1, 3,100 lost: $0.0107" in shown
    assert "cache 3,000 of 3,100 tokens" in " ".join(ask("--store", url, "show", "call-1").out.split())
    assert "cache  " not in ask("--store", url, "show", "call-4").out
    assert ask("--store", url, "show", "call-2", "--json").json["prompt_cache"]["cause"] == "system: changed"


def test_content_that_was_not_kept_leaves_what_the_provider_says(store: str) -> None:
    withheld = [
        call(
            number, clock, 0, content_level="metadata", request=Request(model="claude-sonnet-4-5"),
            redactions=[Redaction(what="request.body", why="content")],
            response=Response(prompt_cache_miss="system_changed"),
        )
        for number, clock in enumerate(("9:00", "9:14"))
    ]  # fmt: skip
    url = keep(store, *withheld)
    shown = " ".join(ask("--store", url, "show", "call-1").out.split())
    assert "cache 0 of 3,100 tokens; no content (provider: system_changed) since call-0" in shown
    told = ask("--store", url, "--json", "cache").json
    assert (told["lost_tokens"], told["causes"]) == (None, [])


def test_control_characters_of_requests_never_reach_the_terminal(store: str) -> None:
    url = keep(store, call(0, "9:00", 0), call(1, "\x1b]0;title\x07 9:14", 0))
    for arguments in (["cache"], ["cache", "s1"], ["cache", "--json"]):
        assert not {"\x1b", "\x07"} & {*ask("--store", url, *arguments).out}


@pytest.mark.parametrize("arguments", [["cache"], ["cache", "--json"], ["cache", "--since", "1m"]])
def test_a_store_without_such_calls_ends_with_exit_code_1(store: str, arguments: list[str]) -> None:
    answer = ask("--store", keep(store), *arguments)
    assert (answer.code, answer.err) == (1, f"No such calls in {store}.\n")
    assert not answer.out or json.loads(answer.out)["calls"] == 0


def test_an_unknown_session_is_named(store: str) -> None:
    answer = ask("--store", keep(store, *CALLS), "cache", "nowhere")
    assert (answer.code, "begins with 'nowhere'" in answer.err) == (1, True)
