"""Sessions that Claude Code and Codex reported, by the page and the command: as any other."""

from __future__ import annotations

from typing import Any

import pytest
from tests.receive.conftest import Kept, logs, recorded
from tests.support.commands import ask
from tests.view.conftest import Delivery, Open

from callspan.records import EventRecord


@pytest.fixture
def reported(store: Delivery) -> Delivery:
    """Three calls, of which the first was repeated, two tools of which one failed, and a subagent with a call."""
    kept = Kept()
    for events in recorded("tools"):
        assert kept.take(logs(events))
    store.write(*kept.versions)
    return store


def session_id(store: Delivery) -> str:
    (session,) = ask("--store", store.url, "--json", "sessions").json
    return str(session["session_id"])


def test_session_is_named_by_the_words_of_the_user(reported: Delivery, tab: Open) -> None:
    """Claude Code puts reminders of its own before them."""
    page = tab(reported.url, "", ".row.session").tab
    assert page.inner_text(".row.session .words") == "What is in a.txt?"
    for command in ("sessions", "calls"):
        out = ask("--store", reported.url, command).out
        assert "What is" in out
        assert "reminder" not in out


def test_reminders_are_folded(reported: Delivery, tab: Open) -> None:
    page = tab(reported.url, f"session/{session_id(reported)}", "[data-entry]").tab
    said = page.locator("[aria-label=Conversation] .turn:has(b:text-is('user'))").first
    assert "What is in a.txt?" in said.inner_text()
    assert said.locator("details:not([open])").inner_text().startswith("added by the program")


def test_subagent_is_below_the_tool_that_started_it(reported: Delivery, tab: Open) -> None:
    """It has the description of its task, and its calls are inside it."""
    page = tab(reported.url, f"session/{session_id(reported)}", ".entry").tab
    rows = page.locator(".entry[role=treeitem]").evaluate_all(
        "all => all.map(row => [row.children[0].textContent, Number(row.getAttribute('aria-level'))])"
    )
    assert [kind for kind, _ in rows] == ["call", "tool", "tool", "call", "tool", "agent", "call", "call", "call"]
    assert [level for _, level in rows] == [1, 1, 1, 1, 1, 2, 3, 1, 1]
    assert page.inner_text(".entry:has(> span:text-is('agent'))").split()[1:5] == [
        "look",
        "general-purpose",
        "1",
        "call",
    ]
    out = ask("--store", reported.url, "show", session_id(reported)).out
    lines = [
        line for line in out.splitlines() if "tool Agent" in line or "agent look (general-purpose)  1 call" in line
    ]
    starts = [max(line.find("tool Agent"), line.find("agent look")) for line in lines]
    assert starts == [starts[0], starts[0] + 4]
    for name in ("look", "general-purpose"):
        narrowed = ask("--store", reported.url, "show", session_id(reported), "--agent", name).out
        assert [line.count("chat") for line in narrowed.splitlines()[3:]] == [0, 1]


def test_tools_of_a_subagent_are_inside_it(reported: Delivery, tab: Open) -> None:
    """They name the call that requested them, which names the agent."""
    events = [event for events in recorded("tools") for event in events]
    inner = next(event for event in events if event["event.name"] == "api_request" and "agent_id" in event)
    kept = Kept()
    used = {
        "event.name": "tool_result",
        "tool_name": "NotebookEdit",
        "tool_use_id": "t9",
        "success": "true",
        "duration_ms": 1,
    }
    same = {name: inner[name] for name in ("time_ns", "session.id", "request_id")}
    assert kept.take(logs([{**same, **used}]))
    reported.write(*(record for record in kept.versions if isinstance(record, EventRecord)))
    page = tab(reported.url, f"session/{session_id(reported)}", ".entry:has-text('NotebookEdit')").tab

    def indent(name: str) -> str:
        row = page.locator(f".entry:has(> span:text-is('tool')):has-text('{name}')").first
        return str(row.evaluate("one => one.style.getPropertyValue('--in')"))

    assert (indent("NotebookEdit"), indent("Bash")) == ("42px", "14px")
    lines = ask("--store", reported.url, "show", session_id(reported)).out.splitlines()
    starts = {
        name: next(line.index(name) for line in lines if name in line) for name in ("tool NotebookEdit", "tool Bash")
    }
    assert starts["tool NotebookEdit"] == starts["tool Bash"] + 8


def test_session_of_codex_is_named_by_the_words_of_the_user(store: Delivery, tab: Open) -> None:
    kept = Kept()
    for events in recorded("codex"):
        assert kept.take(logs(events, "codex_exec"))
    store.write(*kept.versions)
    one = tab(store.url, "", ".row.session")
    assert one.tab.inner_text(".row.session .words") == "say hi"
    one.open(f"session/{session_id(store)}", "[data-entry]")
    assert one.tab.inner_text("[aria-label=Conversation] .turn b >> nth=0") == "user"
    assert one.tab.inner_text(".entry:has-text('say hi') > span >> nth=0") == "user"


def test_tools_and_cost_are_of_the_session(reported: Delivery, tab: Open) -> None:
    page = tab(reported.url, f"session/{session_id(reported)}", ".box").tab
    assert page.locator(".box.failed").inner_text().split()[:2] == ["Bash", "call"]
    row: dict[str, Any] = ask("--store", reported.url, "--json", "sessions").json[0]
    assert row["cost_usd"] is None or "$" in page.inner_text(".titlebar")
    assert "claude-opus-5" in page.inner_text(".titlebar")
    assert '{"type"' not in page.inner_text("[aria-label=Course]"), "the words of a result"
