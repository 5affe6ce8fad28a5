"""Turns of a chat that are sessions of their own: each has its question, and leads to the others."""

from __future__ import annotations

from tests.support.world import World
from tests.view.conftest import Delivery, Open, Show, faults

QUESTIONS = ("Plan my day in Oslo.", "And tomorrow in Oslo?", "And then?")


def chat(world: World) -> None:
    """openai-agents, strands and smolagents begin a session with each turn, and send the turns before."""
    sent: list[dict[str, str]] = []
    for number, text in enumerate(QUESTIONS):
        world.session(f"s{number}", name="planner")
        sent.append({"role": "user", "content": text})
        world.chat([*sent], f"An answer to {text}", f"s{number}")
        sent.append({"role": "assistant", "content": f"An answer to {text}"})
    world.session("other", name="planner")
    world.chat([{"role": "user", "content": QUESTIONS[0]}], "Another answer.", "other")


def test_list_and_page_lead_from_turn_to_turn(store: Delivery, show: Show) -> None:
    world = World()
    chat(world)
    store.write(*world.records)
    page = show(store.url)
    rows = [(row["session_id"], row["title"], row["continues"]) for row in page.get("/api/sessions")["rows"]]
    assert rows == [
        ("other", QUESTIONS[0], None),
        ("s2", QUESTIONS[2], "s1"),
        ("s1", QUESTIONS[1], "s0"),
        ("s0", QUESTIONS[0], None),
    ]
    found = [page.get(f"/api/turns?id={name}") for name in ("s0", "s1", "s2", "other")]
    assert [(turns["before"], turns["after"]) for turns in found] == [
        (None, ["s1"]), ("s0", ["s2"]), ("s1", []), (None, []),
    ]  # fmt: skip


def test_turns_are_linked_in_the_browser(store: Delivery, tab: Open) -> None:
    world = World()
    chat(world)
    store.write(*world.records)
    page = tab(store.url, "", ".session")
    page.tab.locator("[data-id=s1] a.quiet").click()
    page.tab.wait_for_url("**/session/s0")
    page.tab.get_by_text("next turn").click()
    page.tab.wait_for_url("**/session/s1")
    page.tab.get_by_text("next turn").click()
    page.tab.wait_for_url("**/session/s2")
    page.tab.get_by_text("turn before").wait_for()
    assert faults(page.tab) == []
