"""`callspan show`: a session as a tree, a call in full, two side by side, and what it finds by which id."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import openai
import pytest

import callspan
from callspan.cli.screen import Screen
from callspan.cli.session_tree import Page, session_tree
from callspan.cli.show import print_call
from callspan.comparison.diff import diff
from callspan.comparison.sides import side_of_call
from callspan.comparison.text_changes import text_changes
from callspan.records import (
    Attempt,
    CallRecord,
    Conversation,
    Cost,
    ErrorInfo,
    EventRecord,
    Media,
    Message,
    Part,
    Place,
    Reasoning,
    Redaction,
    Refusal,
    Request,
    Response,
    Stream,
    Text,
    TimestepRecord,
    ToolCall,
    ToolResult,
    Totals,
    UnknownPart,
    Usage,
)
from callspan.stores import Event, SessionSummary, start_of
from callspan.stores.scratch import scratch_reader
from callspan.testing import ScriptedProvider
from tests.commands import ask
from tests.records import MINUTE, SECOND, START_NS, keep, made, session

from .conftest import drawn, summed

_SERVER = ErrorInfo(kind="server", type="server_error", status=500, message="it broke")


def step(index: int, **fields: Any) -> TimestepRecord:
    given = {"timestep_id": f"t{index}", "session_id": "session-1", "seen_ns": 1, "index": index}
    return TimestepRecord(**(given | {"start_ns": START_NS + index * MINUTE} | fields))


def event(event_type: str, **fields: Any) -> EventRecord:
    return EventRecord(**({"event_id": "e", "event_type": event_type, "time_ns": START_NS} | fields))


def lines(
    *calls: CallRecord,
    steps: tuple[TimestepRecord, ...] = (),
    events: tuple[Event, ...] = (),
    summary: SessionSummary | None = None,
) -> list[str]:
    items = sorted([*calls, *events], key=start_of)
    with scratch_reader(calls) as reader:
        sums = next(reader.summary("session"), None)
    page = Page(summary or summed(session(start_ns=START_NS)), sums, dict(enumerate(steps)), items, len(items))
    return [line.rstrip() for line in drawn(session_tree(page)).splitlines()]


def only(item: CallRecord | Event) -> str:
    """The one line below a session's two own, without its guide and waterfall."""
    found = lines(item) if isinstance(item, CallRecord) else lines(events=(item,))
    assert len(found) == 3
    return found[2][4 + 13 :]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "step 0  \N{EN DASH}"),
        ({"start_ns": None}, "step 0  \N{EN DASH}"),
        ({"name": "look\x1b"}, "step 0 look\ufffd  \N{EN DASH}"),
        ({"end_ns": START_NS + SECOND}, "step 0  1.00 s"),
        ({"outcome": "success"}, "step 0  \N{EN DASH}"),
        ({"outcome": "error", "truncated": True}, "step 0  \N{EN DASH}  error  truncated"),
        ({"terminated": True, "truncated": True}, "step 0  \N{EN DASH}  terminated"),
        ({"terminated": False, "truncated": False}, "step 0  \N{EN DASH}"),
        ({"totals": Totals()}, "step 0  \N{EN DASH}"),
        ({"totals": Totals(reward=0.0)}, "step 0  +0  \N{EN DASH}"),
        ({"totals": Totals(reward=-2.0)}, "step 0  -2  \N{EN DASH}"),
    ],
)
def test_the_line_of_a_step(fields: dict[str, Any], expected: str) -> None:
    assert lines(steps=(step(0, **fields),))[2] == f"└── {expected}"


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (event("tool"), "tool tool"),
        (event("tool", name="look", data={"arguments": {"at": 1}, "result": None}), 'tool look {"at":1} →'),
        (event("tool", name="look", data={"arguments": None, "result": 0}), "tool look → 0"),
        (event("tool", name="look", data="odd", duration_ns=SECOND), "tool look  1.00 s"),
        (event("tool", error=_SERVER), "tool tool  it broke"),
        (event("tool", error=ErrorInfo(kind="unknown", type="KeyError")), "tool tool  KeyError"),
        (event("environment", reward=0.0, terminated=True), "environment +0  terminated"),
        (event("environment", truncated=True, data={"after": "lost"}), "environment  truncated lost"),
        (event("environment", data=[1, 2]), "environment  [1,2]"),
        (event("environment", data={"before": 1}), 'environment  {"before":1}'),
        (event("thought", name="why", data={"x": None}, error=_SERVER), 'thought why {"x":null}  server_error'),
        (event("thought"), "thought"),
    ],
)
def test_an_event_in_one_line(item: EventRecord, expected: str) -> None:
    assert only(item) == expected


def test_an_agent_is_shown_with_the_sums_of_its_calls_and_what_ran_in_it_below() -> None:
    priced = {"usage": Usage(input_tokens=3, output_tokens=2), "cost": Cost(usd=Decimal("0.5"), source="provider")}
    agent = event(
        "agent", name="triage", span_id="a", duration_ns=9 * SECOND, time_ns=START_NS - 1,
        metadata={"outcome": "step_limit"},
    )  # fmt: skip
    tool = event("tool", event_id="t", name="look", span_id="b", parent_span_id="a", time_ns=START_NS + 1)
    inside = made("c", span_id="c", parent_span_id="b", **priced)
    outside = made("d", at_ns=START_NS + SECOND, span_id="d", **priced)
    found = [line[17:].rstrip() for line in lines(inside, outside, events=(agent, tool))[2:]]
    assert found[0] == "agent triage  1 call  3→2  $0.50  9.00 s  step_limit"
    assert [len(line) - len(line.lstrip()) for line in found] == [0, 4, 4, 0]


def second(name: str, index: int, parent: str | None = None) -> TimestepRecord:
    return TimestepRecord(
        timestep_id=name, session_id="s", seen_ns=1, index=index, start_ns=START_NS + index * SECOND,
        parent_timestep_id=parent,
    )  # fmt: skip


@pytest.fixture
def long(store: str) -> str:
    """Three steps, the last within the second, each with a call and an event half a second later."""
    records = [session("s", start_ns=START_NS), second("a", 0), second("b", 1), second("c", 2, parent="b")]
    for at, name in enumerate("abc"):
        place, begun = Place(session_id="s", timestep_id=name), START_NS + at * SECOND
        records.append(made(f"call-{name}", at_ns=begun, place=place))
        event = EventRecord(
            event_id=name, session_id="s", timestep_id=name, event_type="action", time_ns=begun + SECOND // 2
        )
        records.append(event)
    return keep(store, *records)


def test_show_says_which_part_it_shows(long: str) -> None:
    assert "entries" not in ask("--store", long, "show").out
    output = ask("--store", long, "show", "s", "--limit", "3").out
    assert output.splitlines()[-1] == "the first 3 of 6 entries: --limit N shows more, --json all"
    assert re.findall(r"step (\d)", output) == ["0", "1"], "the steps that had begun"
    assert "3 calls" in output, "the head speaks of the whole session"
    assert len(ask("--store", long, "show", "s", "--json", "--limit", "2").json["steps"][0]["calls"]) == 1


@pytest.fixture
def page(capsys: pytest.CaptureFixture[str]) -> Any:
    """Print a call and return its lines."""

    def page(call: CallRecord) -> list[str]:
        print_call(Screen(), call)
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return page


def labelled(lines: list[str], label: str) -> list[str]:
    return [line[12:] for line in lines if line.startswith(f"{label:<12}")]


@pytest.mark.parametrize(
    ("fields", "label", "expected"),
    [
        ({"place": Place(session_id="s")}, "session", "s (no name)"),
        ({"place": Place(session_id="s", session_name="run", timestep=0)}, "session", "s (run)"),
        ({"trace_id": "ab", "span_id": "cd"}, "trace", "ab  span cd"),
        ({"batch_id": "batch_1", "custom_id": "line-7"}, "batch", "batch_1, line line-7"),
        (
            {"provider": "openai", "api": "responses", "server_address": "h", "server_port": 443},
            "provider",
            "openai responses at h:443",
        ),
        ({"usage": Usage()}, "tokens", "\N{EN DASH} in, \N{EN DASH} out"),
        ({"usage": Usage(input_tokens=0, output_tokens=0)}, "tokens", "0 in, 0 out"),
        (
            {"usage": Usage(input_tokens=1234, cache_read_tokens=0, cache_write_tokens=5, reasoning_tokens=6)},
            "tokens",
            "1,234 in, \N{EN DASH} out (of them 0 cached, 5 to cache, 6 reasoning)",
        ),
        ({"cost": Cost(usd=Decimal("0.00125"), source="mine v1")}, "cost", "$0.00125 by mine v1"),
        ({"stream": Stream(end="closed", chunks=1000)}, "stream", "ended by closed, 1,000 chunks, not whole"),
        ({"stream": Stream(end="cut_off", chunks=7)}, "stream", "cut off after 7 chunks"),
        ({"stream": Stream(end="complete", complete=True)}, "stream", "ended by complete, 0 chunks, whole"),
        ({"response": Response(finish_reasons=["stop", None, "length"])}, "finished", "stop, length"),
        ({"request": Request(params={"temperature": 0, "stop": None})}, "parameters", '{"temperature":0,"stop":null}'),
        ({"redactions": [Redaction(what="request.body", why="content")]}, "left out", "request.body (content)"),
        ({"error": ErrorInfo(kind="server", type="overloaded")}, "error", "server: overloaded"),
    ],
)
def test_each_field_of_a_call_is_one_line(page: Any, fields: dict[str, Any], label: str, expected: str) -> None:
    assert labelled(page(made(**fields)), label) == [expected]


@pytest.mark.parametrize("level", ["metadata", "off"])
def test_where_nothing_is_shown_the_level_says_why(page: Any, level: Any) -> None:
    """Of a call whose answer alone was read at a stricter level, the prompt is shown."""
    assert page(made(content_level=level))[-2:] == ["", f"content is {level}"]
    asked = Conversation(input=[Message(role="user", parts=[Text(text="Hi")])])
    assert page(made(content_level=level, conversation=asked))[-2:] == ["user", "  Hi"]


def test_attempts_are_reported_where_there_was_more_than_one(page: Any) -> None:
    tries = [
        Attempt(number=1, start_ns=0, status=429, planned_wait_s=0.5, request_id="req-1"),
        Attempt(number=2, start_ns=SECOND, error_type="ConnectError", planned_wait_s=0.0),
        Attempt(number=3, start_ns=2 * SECOND),
        Attempt(number=4, start_ns=61 * SECOND, status=200),
    ]
    lines = page(made(attempts=tries))
    assert [labelled(lines, f"attempt {number}") for number in (1, 2, 3, 4)] == [
        ["429 at 0 ms, then waited 500 ms, request req-1"],
        ["ConnectError at 1.00 s, then waited 0 ms"],
        ["no answer at 2.00 s"],
        ["200 at 1 min 01 s"],
    ]


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (Text(text="a\nb"), ["a", "b"]),
        (Text(text=""), [""]),
        (Refusal(text="never"), ["(refused) never"]),
        (Reasoning(text="hm"), ["(thinking) hm"]),
        (Reasoning(), ["(thinking) sealed"]),
        (Reasoning(text="", sealed="abc"), ["(thinking) sealed"]),
        (ToolCall(name="f", arguments='{"a":'), ['f({"a":)']),
        (ToolCall(incomplete=True), ["tool() (cut off)"]),
        (ToolResult(content="42"), ["42"]),
        (ToolResult(content=[{"text": "x"}], is_error=True), ['(error) [{"text":"x"}]']),
        (ToolResult(), ["null"]),
        (Media(modality="image", mime="image/png", url="http://h/p.png"), ["(image image/png http://h/p.png)"]),
        (Media(modality="audio", file_id="file-1", sha256="ff"), ["(audio  file-1)"]),
        (Media(modality="video", sha256="ff"), ["(video  ff)"]),
        (Media(modality="document"), ["(document  inline)"]),
        (Media(modality="image", url="u" * 200), [f"(image  {'u' * 80})"]),
        (UnknownPart(data={"type": "hologram"}), ['{"type":"unknown","data":{"type":"hologram"}}']),
        (Text(text="\x1b[2J\u202e[bold]"), ["\ufffd[2J\ufffd[bold]"]),
    ],
)
def test_every_kind_of_part_is_shown(page: Any, part: Part, shown: list[str]) -> None:
    lines = page(made(conversation=Conversation(output=[Message(role="assistant", parts=[part])])))
    assert [line.removeprefix("  ") for line in lines[lines.index("assistant answer") + 1 :]] == shown


def test_a_long_error_is_wrapped_whole_and_clean(page: Any) -> None:
    message = "because " * 30 + "\x1b]0;owned\x07"
    lines = page(made(outcome="error", error=ErrorInfo(kind="k", type="t", status=500, message=message)))
    assert lines[0] == "chat gpt-5  error 500"
    text = " ".join(lines)
    assert text.count("because") == 30
    assert "\x1b" not in text
    assert "\x07" not in text


@pytest.fixture
def full(anywhere: str) -> str:
    first = {"name": "grid", "user_id": "u1", "group_id": "g1", "task_id": "t1", "experiment": "x1"}
    return keep(
        anywhere,
        session("session-a", start_ns=START_NS, **first, metadata={"seed": 7}),
        session("session-b", start_ns=START_NS, name="chat", metadata={"seed": 8}),
        TimestepRecord(timestep_id="t-1", session_id="session-a", seen_ns=1, index=0, user_step_id="my-step"),
        made(
            "call-a",
            trace_id="a" * 32,
            place=Place(session_id="session-a", session_name="grid", timestep_id="t-1"),
            metadata={"user_id": "u1", "extra": {"variant": "b"}},
            response=Response(id="msg_1"),
            attempts=[Attempt(number=1, start_ns=0, request_id="req_1")],
        ),
        made("call-b", place=Place(session_id="session-b")),
        made("call-c"),
    )


@pytest.mark.parametrize("ident", ["x", "", "%", "_", "\x1b[2J"])
def test_show_of_an_unknown_id_is_exit_code_1_in_every_form(store: str, ident: str) -> None:
    answer = ask("--store", keep(store), "show", ident)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"Nothing in {store} has an id that begins with ")
    assert "\x1b" not in answer.err


@pytest.mark.parametrize("arguments", [["show"], ["show", "last"]])
def test_show_of_an_empty_store_says_so(store: str, arguments: list[str]) -> None:
    assert ask("--store", keep(store), *arguments) == (1, "", f"There is nothing in {store} yet.\n")


def test_show_names_the_sessions_that_begin_alike(store: str) -> None:
    keep(store, *(session(f"run-{at}", start_ns=START_NS + at) for at in range(5)))
    answer = ask("--store", store, "show", "run-")
    assert (answer.code, answer.err) == (1, "5 sessions begin with 'run-': run-4, run-3, run-2 and 2 more.\n")


@pytest.mark.parametrize(
    ("at_ns", "place", "shown"),
    [
        (START_NS + SECOND, Place(), "call        c"),
        (START_NS - SECOND, Place(), "s-1"),
        (START_NS + SECOND, Place(session_id="s-1"), "s-1"),
    ],
)
def test_show_last_is_the_newest_of_calls_and_sessions(store: str, at_ns: int, place: Place, shown: str) -> None:
    keep(store, session("s-1", start_ns=START_NS), made("c", at_ns=at_ns, place=place))
    for arguments in (["show"], ["show", "last"]):
        out = ask("--store", store, *arguments).out
        assert shown in out


def test_lists_show_what_was_given_whole_and_without_padding(anywhere: str) -> None:
    long = "x" * 150
    keep(
        anywhere,
        session("s", start_ns=START_NS, user_id="u1", metadata={"tags": ["a", "b"], "seed": 7}),
        made(
            "c",
            place=Place(session_id="s"),
            request=Request(model="gpt-5", params={"stop": f"y{long}"}),
            metadata={"note": long, "tags": ["a", "b"]},
            batch_id="b",
            custom_id="line-7",
        ),
    )
    tree = ask("--store", anywhere, "show", "s").out
    assert "tags=a,b  seed=7" in tree
    assert "line line-7" in tree
    assert "line-7" in ask("--store", anywhere, "calls").out
    call = ask("--store", anywhere, "show", "c").out
    whole = "".join(line.strip() for line in call.splitlines())
    assert f'{{"note":"{long}","tags":["a","b"]}}' in whole
    assert f'{{"stop":"y{long}"}}' in whole
    assert max(map(len, call.splitlines())) <= 100
    for shown in (tree, call, ask("--store", anywhere, "sessions").out):
        assert [line for line in shown.splitlines() if line != line.rstrip()] == []


def test_long_texts_are_compared_as_a_whole_in_no_time() -> None:
    a, b = "same words " * 9_000, "same words\n" * 9_000
    assert [run.where for run in text_changes(a, b)] == ["a", "b"]


def _talk(call_id: str, *, place: str, answer: str, **fields: Any) -> Any:
    conversation = Conversation(
        system=[Text(text="Be brief.")],
        input=[
            Message(role="user", parts=[Text(text="Where?")]),
            Message(role="assistant", parts=[ToolCall(id=f"id-{call_id}", name="look", arguments='{"at":1}')]),
            Message(role="tool", parts=[ToolResult(id=f"id-{call_id}", content=place)]),
        ],
        output=[Message(role="assistant", parts=[Text(text=answer)])],
        tools=[{"type": "function", "function": {"name": "look"}}],
    )
    return side_of_call(made(call_id, **fields), conversation)


def test_messages_that_only_one_has_stand_alone() -> None:
    one = _talk("a", place="a door", answer="Left.")
    other = _talk("b", place="a door", answer="Left.")
    del other.messages[2:4]
    statuses = [(pair.role, pair.status, pair.a, pair.b) for pair in diff(one, other).messages]
    assert statuses == [
        ("system", "same", 0, 0), ("user", "same", 1, 1), ("assistant", "only_a", 2, None), ("tool", "only_a", 3, None),
        ("assistant", "same", 4, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "difference"),
    [(1, 3, 2), (Decimal("0.1"), Decimal("0.3"), Decimal("0.2")), (True, False, None), (2, 2, None), (None, 2, None)],
)
def test_the_difference_of_numbers(a: Any, b: Any, difference: Any) -> None:
    one, other = (side_of_call(made(), Conversation()) for _ in "ab")
    one.parameters["n"], other.parameters["n"] = a, b
    assert [fact.difference for fact in diff(one, other).parameters] == [difference]


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two sessions that differ in their last answer."""
    store = f"sqlite:///{tmp_path_factory.mktemp('diff') / 'calls.db'}"
    with ScriptedProvider() as provider, openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        handle = callspan.instrument(stores=store)
        try:
            for name, answers in (("a", ["North.", "East."]), ("b", ["North.", "West."])):
                messages: list[Any] = [{"role": "user", "content": "Where to?"}]
                with callspan.session(name, session_id=f"rollout-{name}", metadata={"prompt": name}):
                    for answer in answers:
                        provider.reply(answer)
                        done = client.chat.completions.create(model="gpt-5", messages=messages, seed=len(name))
                        messages += [
                            done.choices[0].message.model_dump(exclude_none=True),
                            {"role": "user", "content": "?"},
                        ]
        finally:
            handle.uninstrument()
    return store


def test_two_sessions(rollouts: str) -> None:
    answer = ask("--store", rollouts, "--json", "show", "rollout-a", "rollout-b")
    assert answer.json["first_difference"] == {"section": "messages", "place": 3}
    assert answer.json["messages"][3] == {
        "role": "assistant", "status": "differs", "a": 3, "b": 3,
        "changes": [["a", "East"], ["b", "West"], ["both", "."]],
    }  # fmt: skip
    facts = {fact["name"]: (fact["status"], fact["a"]) for fact in answer.json["facts"]}
    assert facts["meta:prompt"] == ("differs", "a")
    assert facts["calls"] == ("same", 2)
    shown = ask("--store", rollouts, "show", "rollout-a", "rollout-b")
    assert shown.code == 0
    assert "[-East-]{+West+}." in shown.out
    assert "3 messages the same" in shown.out
    assert shown.out.endswith("First difference: message 4, assistant.\n")
    assert (
        "only its first 1 call of 2" in ask("--store", rollouts, "show", "rollout-a", "rollout-b", "--limit", "1").err
    )


def test_two_calls_and_what_cannot_be_compared(rollouts: str) -> None:
    calls = [row["call_id"] for row in ask("--store", rollouts, "--json", "calls").json]
    same = ask("--store", rollouts, "show", calls[0], calls[0])
    assert "Parameters, tools and messages are equal." in same.out
    mixed = ask("--store", rollouts, "show", calls[0], "rollout-a")
    assert mixed.code == 2
    assert "A is a call and B a session" in mixed.err
    assert ask("--store", rollouts, "show", calls[0], "nothing").code == 1
