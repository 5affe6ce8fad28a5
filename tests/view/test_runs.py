"""Runs on the page and in lists: conversations that nobody opened a session for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from tests.support.commands import run
from tests.support.records import SECOND, START_NS, made, raw
from tests.view.conftest import WINDOW, Delivery, Open, faults

from callspan.records import CallRecord, Request, Response

PHONE = {"width": 390, "height": 844}
QUESTIONS = ["Where is my parcel?", "And is it dry there?", "Then cancel it, please."]


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def call(number: int, messages: Sequence[Any], answer: dict[str, Any], **fields: Any) -> CallRecord:
    return made(
        f"c{number}", at_ns=START_NS + number * SECOND, took_ns=SECOND // 2, api="chat_completions",
        request=Request(body=raw({"messages": [*messages]})),
        response=Response(body=raw({"choices": [{"index": 0, "message": answer}]})), **fields,
    )  # fmt: skip


def conversation() -> list[CallRecord]:
    """A question, a question with a tool, and another question in place of the second one."""
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    asks = {"role": "assistant", "content": None, "tool_calls": [{"id": "call_Vt8x", "function": function}]}
    begun = [said("user", QUESTIONS[0]), said("assistant", "It lies in Oslo, at the harbour.")]
    wet = [*begun, said("user", QUESTIONS[1])]
    told = [*wet, asks, {"role": "tool", "tool_call_id": "call_Vt8x", "content": "rainy"}]
    return [
        call(0, begun[:1], begun[1]),
        call(1, wet, asks),
        call(2, told, said("assistant", "No.")),
        call(3, [*begun, said("user", QUESTIONS[2])], said("assistant", "Cancelled.")),
    ]


def test_lists_have_each_question_of_a_run(store: Delivery) -> None:
    store.write(*conversation())
    (listed,) = msgspec.json.decode(run(store.url, "sessions", "--json"))
    tree = run(store.url, "show", listed["session_id"])
    assert " · ".join(QUESTIONS) in tree
    assert "≤ 500 ms" in tree
    assert [line.partition("branch")[2].strip() for line in tree.splitlines() if "branch" in line] == ["Cancelled."]


def test_branches_beyond_a_number_and_unknown_words_cost_no_list(store: Delivery) -> None:
    begun = [said("user", "Tell me a story."), said("assistant", "Once upon a time there was a fox.")]
    forks = [call(n, [*begun, said("user", f"And branch {n}?")], said("assistant", f"Fox {n}.")) for n in range(1, 9)]
    store.write(call(0, begun[:1], begun[1]), *forks)
    (words,) = store.read().first_words([row.session.session_id for row in store.read().sessions()]).values()
    assert words == "Tell me a story. · And branch 1? · And branch 2? · And branch 3? · And branch 4?"


@pytest.mark.parametrize("viewport", [WINDOW, PHONE], ids=["window", "phone"])
def test_page_of_a_run_has_questions_tools_answers_and_branches(
    store: Delivery, tab: Open, viewport: dict[str, int]
) -> None:
    store.write(*conversation())
    (run_id,) = [row.session.session_id for row in store.read().sessions()]
    page = tab(store.url, f"session/{run_id}", "[data-entry]", viewport=viewport)
    page.tab.wait_for_selector(".state:has-text('1 session, 4 calls')", state="attached")  # a phone hides it
    text = " ".join(page.tab.evaluate("document.body.textContent").split())
    for words in (*QUESTIONS, "rainy", "result ≤ 500 ms", "Cancelled.", "inferred"):
        assert words in text
    assert text.index("branch") < text.rindex(QUESTIONS[2])
    rows = page.tab.eval_on_selector_all(".entry", "all => all.map(row => row.textContent)")
    assert [question for question in QUESTIONS if any(question in row for row in rows)] == QUESTIONS
    assert any("≤" in row and "weather" in row for row in rows)
    assert faults(page.tab) == []


def long_conversation() -> list[CallRecord]:
    """Forty turns with a tool, another question, and another one in its place; a stranger says the same words."""
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    messages: list[Any] = [said("user", "Watch the walrus for me.")]
    calls = []
    for turn in range(40):
        asks = {"role": "assistant", "content": None, "tool_calls": [{"id": f"call_Vt8x{turn}", "function": function}]}
        calls.append(call(turn, messages, asks))
        result = "a narwhal passes" if turn == 20 else f"nothing in hour {turn}"
        messages += [asks, {"role": "tool", "tool_call_id": f"call_Vt8x{turn}", "content": result}]
    calls.append(call(40, messages, said("assistant", "It was a quiet day with one flamingo.")))
    messages.append(said("assistant", "It was a quiet day with one flamingo."))
    calls.append(call(41, [*messages, said("user", "Who saw the okapi?")], said("assistant", "Nobody did.")))
    calls.append(
        call(42, [*messages, said("user", "Where is the axolotl?")], said("assistant", "It hides, the ocelot."))
    )
    stranger = "walrus narwhal flamingo okapi axolotl ocelot"
    return [*calls, call(43, [said("user", stranger)], said("assistant", "Animals."))]


def test_search_in_a_long_run_finds_what_was_asked_answered_and_returned_in_each_branch(
    store: Delivery, tab: Open
) -> None:
    store.write(*long_conversation())
    (run_id,) = [row.session.session_id for row in store.read().sessions()]
    page = tab(store.url, f"session/{run_id}", "[data-entry]")
    hits = (
        ("walrus", "user", "c0"), ("narwhal", "tool result", "c21"), ("flamingo", "assistant", "c40"),
        ("okapi", "user", "c41"), ("axolotl", "user", "c42"), ("ocelot", "assistant", "c42"),
    )  # fmt: skip
    for word, where, call_id in hits:
        page.open(f"find?q=session:{run_id}%20{word}", ".found.sub")
        (hit,) = page.tab.locator(".found.sub").all()
        assert where in hit.inner_text()
        assert hit.locator("mark").inner_text() == word
        assert page.tab.locator(".found:not(.sub)").get_attribute("data-id") == run_id
        hit.click()
        page.tab.wait_for_url(f"**/call/{call_id}")
    page.tab.wait_for_selector("main.call")
    page.press("/")
    page.tab.wait_for_selector("#find:focus")
    page.tab.keyboard.type("ocelot")
    page.press("Enter")
    page.tab.wait_for_selector(".found.sub >> nth=1")
    assert page.tab.locator(".found.sub").count() == 2, "everywhere: the stranger, too"
    assert faults(page.tab) == []
