"""Agents that run at once: whose call is whose, in the command, the page, the report and the JSON alike."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.support.commands import ask
from tests.support.records import SECOND, START_NS, Records, raw, step
from tests.support.waiting import HANG_MS, HANG_S
from tests.view.conftest import Delivery, Open, data, event, faults

import callspan
from callspan.records import Place, Record, Response
from callspan.testing import Reply, ScriptedProvider

PHONE: dict[str, Any] = {"width": 390, "height": 844}
TREE = [
    (0, "0"),
    (1, "researcher"),
    (2, "words of researcher 0"),
    (2, "search"),
    (3, "reader"),
    (4, "words of reader 0"),
    (2, "words of researcher 1"),
    (1, "critic"),
    (2, "polite"),
    (3, "words of judge 0"),
    (2, "words of critic 0"),
    (2, "words of critic 1"),
]
"""The depth of each row, and its words."""
PARENTS = {
    name: next(above for upper, above in reversed(TREE[:number]) if upper == depth - 1)
    for number, (depth, name) in enumerate(TREE)
    if depth
}
ROWS = """all => all.map(row => [
  Number(row.getAttribute("aria-level")) - 1, parseInt(row.style.getPropertyValue("--in")), row.innerText,
])"""


def answer(request: Any) -> Reply:
    return Reply(text=f"words of {request.body['messages'][-1]['content']}")


async def say(client: openai.AsyncOpenAI, text: str) -> None:
    await client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": text}])


async def converse(provider: ScriptedProvider) -> None:
    """Two agents take turns: each waits for the other's call. One has an agent inside a tool, one a check beside it."""
    client = openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k")
    turns = [asyncio.Event() for _ in range(4)]

    async def researcher() -> None:
        async with callspan.invoke_agent("researcher"):
            await say(client, "researcher 0")
            turns[0].set()
            await turns[1].wait()
            async with callspan.tool("search"), callspan.invoke_agent("reader"):
                await say(client, "reader 0")
            turns[2].set()
            await turns[3].wait()
            await say(client, "researcher 1")

    async def critic() -> None:
        await turns[0].wait()
        async with callspan.invoke_agent("critic"):
            async with callspan.guardrail("polite") as check:
                await say(client, "judge 0")
                check.triggered = False
            await say(client, "critic 0")
            turns[1].set()
            await turns[2].wait()
            await say(client, "critic 1")
            turns[3].set()

    async with client, callspan.session("two at once", session_id="s1"), callspan.timestep():
        await asyncio.gather(researcher(), critic())


@pytest.fixture
def conversed(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/calls.db"
    with ScriptedProvider() as provider:
        provider.reply(responder=answer, repeat=True)
        handle = callspan.instrument(stores=url)
        with ThreadPoolExecutor(1) as thread:  # the browser's loop runs in this one
            thread.submit(asyncio.run, converse(provider)).result(HANG_S)
        handle.force_flush(HANG_MS)
        handle.uninstrument()
    return url


def test_children_stand_below_their_parents_on_the_page(conversed: str, tab: Open) -> None:
    page = tab(conversed, "session/s1", ".entry.step").tab
    rows = page.locator(".entry[role=treeitem]").evaluate_all(ROWS)
    assert [(depth, name in words) for (depth, _, words), (_, name) in zip(rows, TREE, strict=True)] == [
        (depth, True) for depth, _ in TREE
    ]
    assert [indent for _, indent, _ in rows] == [14 * depth for depth, _ in TREE]


def test_children_stand_below_their_parents_in_the_command(conversed: str) -> None:
    _, *lines = ask("--store", conversed, "show", "s1").out.splitlines()[2:]
    starts = {name: next(line.index(name) for line in lines if f" {name}" in line) for _, name in TREE[1:]}
    order = [next(number for number, line in enumerate(lines) if f" {name}" in line) for _, name in TREE[1:]]
    assert order == sorted(order)
    words = {"researcher": "agent ", "critic": "agent ", "reader": "agent ", "search": "tool ", "polite": "guardrail "}
    indents = {name: starts[name] - len(words[name]) for name in words}
    assert {name: (indent - indents["researcher"]) // 4 for name, indent in indents.items()} == {
        "researcher": 0, "critic": 0, "search": 1, "reader": 2, "polite": 1,
    }  # fmt: skip


def words_of(row: dict[str, Any]) -> str:
    call = row.get("call") or row
    return str(call.get("output") or (row.get("record") or row).get("name"))


def parents(rows: list[dict[str, Any]], key: str) -> dict[str, str]:
    """The parent of each entry that has one, by their words."""
    words = {row.get("id") or row.get("call_id") or row.get("event_id"): words_of(row) for row in rows}
    return {words_of(row): words.get(row[key], "0") for row in rows if row[key] is not None}


def test_page_report_and_json_have_one_tree(conversed: str, tmp_path: Path) -> None:
    assert ask("--store", conversed, "report", "-o", str(tmp_path / "report.html")).code == 0
    (pages,) = data((tmp_path / "report.html").read_text())["sessions"]
    assert parents(pages[0]["rows"], "parent") == PARENTS
    (step_json,) = ask("--store", conversed, "--json", "show", "s1").json["steps"]
    lists = {name: step_json[name] for name in ("calls", "tools", "events")}
    assert parents([row for rows in lists.values() for row in rows], "parent_id") == PARENTS
    assert [row["output"] for row in lists["calls"]] == [name for _, name in TREE if name.startswith("words")]


def test_sums_of_a_row_are_of_what_is_inside_it(conversed: str, tab: Open) -> None:
    page = tab(conversed, "session/s1", ".entry.step").tab
    cells = page.locator(".entry[role=treeitem]:not(.step)").evaluate_all(CELLS)
    costs = {words: cost for words, cost in cells if not words.startswith("words of")}
    assert costs == {
        "researcher 3 calls": "$0.000255", "critic 3 calls": "$0.000255", "reader 1 call": "$0.000085",
        "search": "$0.000085", "passed polite": "$0.000085",
    }  # fmt: skip
    lines = ask("--store", conversed, "show", "s1").out
    assert len(re.findall(r"agent (?:researcher|critic) +3 calls  36→\d+  \$0\.\d+", lines)) == 2
    assert re.search(r"tool search +1 call  12→\d+  \$0\.0000\d+", lines)


CELLS = "all => all.map(row => [row.children[1].textContent.trim().replace(/ +/g, ' '), row.children[4].textContent])"
ALL = {name for _, name in TREE if name.startswith("words")}


def said(tab: Any) -> set[str]:
    """The answers in the conversation."""
    turns = tab.locator("[aria-label=Conversation] .turn:has(.who b:text-is('assistant')) .text").all_inner_texts()
    return set(turns)


def test_conversation_is_narrowed_to_one_agent(conversed: str, tab: Open) -> None:
    one = tab(conversed, "session/s1", ".entry.step")
    choice = one.tab.get_by_label("Conversation of")
    assert said(one.tab) == ALL
    options = [text.strip() for text in choice.locator("option").all_inner_texts()]
    assert options == [
        "everyone", "outside of agents", "researcher, 3 calls", "reader, 1 call", "critic, 3 calls",
    ]  # fmt: skip
    for agent, words in (
        ("researcher", {"words of researcher 0", "words of researcher 1"}),
        ("reader", {"words of reader 0"}),
        ("critic", {"words of judge 0", "words of critic 0", "words of critic 1"}),
    ):
        choice.select_option(label=next(text for text in choice.locator("option").all_inner_texts() if agent in text))
        one.tab.wait_for_selector(".agentline button:text-is('everyone')")
        assert said(one.tab) == words
        address = one.tab.url
        one.open("", ".row.session")
        one.open(address.partition("#/")[2], ".agentline button:text-is('everyone')")
        assert said(one.tab) == words, "the address names the agent"
    one.tab.click(".agentline button:text-is('everyone')")
    assert said(one.tab) == ALL
    assert "agent=" not in one.tab.url
    choice.select_option(value="-")
    assert said(one.tab) == set()
    assert len(one.tab.locator("[aria-label=Conversation] .agentline").all()) == 2


def test_row_of_another_agent_moves_the_narrowed_conversation(conversed: str, tab: Open) -> None:
    one = tab(conversed, "session/s1", ".entry.step")
    one.tab.click(".entry:has-text('words of reader 0')")
    one.press("a")
    assert said(one.tab) == {"words of reader 0"}
    one.tab.click(".entry:has-text('words of critic 1')")
    assert said(one.tab) == {"words of judge 0", "words of critic 0", "words of critic 1"}
    assert "words of critic 1" in one.tab.inner_text(".turn.picked")
    one.press("a")
    assert said(one.tab) == ALL


def test_command_is_narrowed_to_one_agent(conversed: str) -> None:
    inside = {
        "critic": ["judge 0", "critic 0", "critic 1"],
        "researcher": ["researcher 0", "reader 0", "researcher 1"],
        "reader": ["reader 0"],
    }
    for agent, names in inside.items():
        out = ask("--store", conversed, "show", "s1", "--agent", agent).out
        assert re.findall(r"words of (\w+ \d)", out) == names
        narrowed = ask("--store", conversed, "--json", "show", "s1", "--agent", agent).json
        assert [call["output"] for call in narrowed["steps"][0]["calls"]] == [f"words of {name}" for name in names]
    (ident,) = [event["event_id"] for event in narrowed["steps"][0]["events"]]
    assert "words of reader 0" in ask("--store", conversed, "show", "s1", "--agent", ident[:23]).out
    first = ask("--store", conversed, "show", "s1", "--agent", "critic", "--limit", "2").out
    assert first.splitlines()[-1] == "the first 2 of 5 entries: --limit N shows more, --json all"


@pytest.mark.parametrize("options", [("s1", "--agent", "nobody"), ("s1", "--agent", "nobody", "--json")])
def test_an_agent_that_is_not_there(conversed: str, options: tuple[str, ...]) -> None:
    answer = ask("--store", conversed, "show", *options)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == "No agent of this session has the name, the task or an id that begins with 'nobody'.\n"


def test_agents_are_of_sessions(conversed: str) -> None:
    call_id = ask("--store", conversed, "--json", "calls").json[0]["call_id"]
    for ids in ((call_id,), ("s1", "s1")):
        answer = ask("--store", conversed, "show", *ids, "--agent", "critic")
        assert (answer.code, "name a session" in answer.err) == (2, True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [{"width": 1440, "height": 900}, {"width": 1280, "height": 600}, PHONE])
def test_everybody_can_read_it(conversed: str, tab: Open, viewport: dict[str, int], scheme: str) -> None:
    one = tab(conversed, "session/s1", "[data-entry]", viewport=viewport, color_scheme=scheme)
    one.drawn()
    assert faults(one.tab) == []
    if viewport == PHONE:
        one.tab.click("text=Course")
        assert faults(one.tab) == []


LONG = 60
ROWS_OF_A_PAGE = 40


def long_agents(records: Records) -> list[Record]:
    """Two agents whose calls alternate, on two pages, with a step inside each; the second begins on page two."""
    made_records: list[Record] = [records.session("s1", start_ns=START_NS, end_ns=START_NS + 2 * LONG * SECOND)]
    for number, name in enumerate(("one", "two")):
        made_records += [
            event("s1", number, "agent", name=name, span_id=name, duration_ns=LONG * SECOND),
            step(
                f"t-{name}", index=number, start_ns=START_NS + (5, LONG - 9)[number] * SECOND, span_id=f"step {name}",
                parent_span_id=name,
            ),
        ]  # fmt: skip
        made_records.append(
            records.call(
                call_id=f"in {name}",
                place=Place(session_id="s1", timestep_id=f"t-{name}"),
                span_id=f"in {name}",
                parent_span_id=f"step {name}",
                at_s=(6, LONG - 8)[number],
                answer=f"in the step of {name}",
            )
        )
    made_records += [
        records.call(
            call_id=f"c{at:02}", session_id="s1", span_id=f"c{at}", parent_span_id=("one", "two")[at % 2], at_s=at,
            answer=f"answer {at}",
        )
        for at in range(2, LONG)
    ]  # fmt: skip
    return made_records


@pytest.fixture
def two_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.view.session._ROWS", ROWS_OF_A_PAGE)


@pytest.mark.usefixtures("two_pages")
def test_tree_of_several_pages(store: Delivery, records: Records, tab: Open) -> None:
    store.write(*long_agents(records))
    one = tab(store.url, "session/s1", ".entry[data-id='c35']")
    # A real click scrolls to the button first, and the page, which reads on near its end, may take the button away.
    one.tab.dispatch_event("text=the next entries", "click")
    one.tab.wait_for_selector("[data-id='in two']", state="attached")
    ids = one.tab.locator(".entry[role=treeitem]").evaluate_all("all => all.map(row => row.dataset.id)")
    assert len(ids) == len(set(ids)) == LONG + 4
    first, second = [ids.index(f"s1-agent-{number}") for number in (0, 1)]
    assert first == 0
    assert {ident for ident in ids[1:second] if ident.startswith("c")} == {f"c{at:02}" for at in range(2, LONG, 2)}
    assert ids.index("in one") == ids.index("t-one") + 1 < second
    assert second < ids.index("t-two") == ids.index("in two") - 1
    lines = [
        line for line in ask("--store", store.url, "show", "s1", "--limit", "9999").out.splitlines() if "answer" in line
    ]
    assert [re.search(r"answer (\d+)", line)[1] for line in lines] == [  # type: ignore[index]
        str(at) for start in (2, 3) for at in range(start, LONG, 2)
    ]


@pytest.mark.usefixtures("two_pages")
def test_address_of_an_agent_on_a_later_page(store: Delivery, records: Records, tab: Open) -> None:
    late = event("s1", LONG + 1, "agent", event_id="late", name="late", span_id="late", duration_ns=SECOND)
    call = records.call(session_id="s1", span_id="c", parent_span_id="late", at_s=LONG + 1.5, answer="a late word")
    store.write(*long_agents(records), late, call)
    page = tab(store.url, "session/s1?agent=late", "[aria-label=Conversation] .turn").tab
    assert said(page) == {"a late word"}


def test_several_agents_with_the_same_tool_call_ids(store: Delivery, records: Records, tab: Open) -> None:
    """Local servers count them for each answer: a result is that of the agent's own call."""
    made_records: list[Record] = [records.session("s1", start_ns=START_NS)]
    for number, name in enumerate(("one", "two")):
        asked = {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_0", "type": "function", "function": {"name": f"look_{name}", "arguments": "{}"}}
            ],
        }
        question = {"role": "user", "content": f"I am {name}"}
        answer = raw(
            {"choices": [{"index": 0, "message": asked, "finish_reason": "tool_calls"}], "object": "chat.completion"}
        )
        result = {"role": "tool", "tool_call_id": "call_0", "content": f"result of {name}"}
        made_records += [
            event("s1", number / 10, "agent", name=name, span_id=name, duration_ns=9 * SECOND),
            records.call(
                [question],
                session_id="s1",
                span_id=f"a{name}",
                parent_span_id=name,
                at_s=1 + number / 10,
                response=Response(body=answer),
            ),
            event(
                "s1",
                2 + number / 10,
                "tool",
                name=f"look_{name}",
                tool_call_id="call_0",
                span_id=f"t{name}",
                parent_span_id=name,
                duration_ns=SECOND,
            ),
            records.call(
                [question, asked, result],
                session_id="s1",
                span_id=f"b{name}",
                parent_span_id=name,
                at_s=4 + number / 10,
                answer=f"done {name}",
            ),
        ]
    store.write(*made_records)
    page = tab(store.url, "session/s1", "[aria-label=Conversation] .box").tab
    boxes = page.locator("[aria-label=Conversation] .box").all_inner_texts()
    assert [re.findall("(?:look_|result of )(one|two)", text) for text in boxes] == [["one", "one"], ["two", "two"]]


def test_strip_has_the_steps_of_an_agent(store: Delivery, records: Records, tab: Open) -> None:
    """Also where an agent is around all steps."""
    made_records: list[Record] = [
        records.session("s1", start_ns=START_NS),
        event("s1", 0, "agent", name="one", span_id="one", duration_ns=99 * SECOND),
    ]
    for number in range(30):
        place = Place(session_id="s1", timestep_id=f"t{number}", timestep=number)
        made_records += [
            step(
                f"t{number}",
                index=number,
                start_ns=START_NS + (number + 1) * SECOND,
                span_id=f"s{number}",
                parent_span_id="one",
            ),
            records.call(place=place, at_s=number + 1.5, span_id=f"c{number}", parent_span_id=f"s{number}"),
        ]
    store.write(*made_records)
    page = tab(store.url, "session/s1", ".stepstrip").tab
    assert page.inner_text(".stepstrip .axis").split() == ["step", "0", "step", "29"]
    assert page.locator(".stepstrip rect").count() == 30
    assert page.locator(".entry.step[aria-level='2']").count() == 30
