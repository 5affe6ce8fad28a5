"""A session that Claude Code reported, by the page and the command: as any other."""

from __future__ import annotations

from typing import Any

import pytest
from tests.receive.conftest import Kept, logs, recorded
from tests.support.commands import ask
from tests.view.conftest import Delivery, Open


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


def test_calls_of_a_subagent_are_inside_it(reported: Delivery, tab: Open) -> None:
    page = tab(reported.url, f"session/{session_id(reported)}", ".entry").tab
    assert page.inner_text(".entry:has(> span:text-is('agent'))").split()[1:4] == ["general-purpose", "1", "call"]
    indents = page.locator(".entry:has(> span:text-is('call'))").evaluate_all(
        "all => all.map(one => parseInt(one.style.getPropertyValue('--in')))"
    )
    assert sorted(indents) == [14, 14, 14, 14, 28]
    assert "agent general-purpose  1 call" in ask("--store", reported.url, "show", session_id(reported)).out


def test_tools_and_cost_are_of_the_session(reported: Delivery, tab: Open) -> None:
    page = tab(reported.url, f"session/{session_id(reported)}", ".box").tab
    assert page.locator(".box.failed").inner_text().split()[:2] == ["Bash", "call"]
    row: dict[str, Any] = ask("--store", reported.url, "--json", "sessions").json[0]
    assert row["cost_usd"] is None or "$" in page.inner_text(".titlebar")
    assert "claude-opus-5" in page.inner_text(".titlebar")
    assert '{"type"' not in page.inner_text("[aria-label=Course]"), "the words of a result"
