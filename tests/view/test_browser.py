"""The page and the report in a real browser: live, by keyboard alone, in the dark, on a phone, hostile texts."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support.identities import identity_of
from tests.support.records import SECOND, START_NS, keep, raw, step
from tests.support.world import World
from tests.view.conftest import QUESTION, Delivery, Open, Reader, Records, Report, arguments, event, faults, play

from callspan.records import Attempt, ErrorInfo, Place, Response

MS = 1_000_000
"""How long something may take to come in on a machine that has much else to do."""
HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "<svg onload=\"document.title='owned'\"></svg>\u202egnp.exe\x1b[31mred</style></title>"
    "javascript:document.title='owned' data:text/html,<script>1</script> ${1} {{1}} '\"` \U000e0041 a\u200db"
)
TOOL = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"order": "48213"}'}}
FAMILY = "\U0001f468\u200d\U0001f467"
SENT = [{"role": "system", "content": "Be short."}, {"role": "user", "content": f"Where is my tent? {FAMILY}"}]
PLACES = {
    "": ".row.session",
    "session/chat": ".titlebar",
    "session/episode": ".titlebar",
    "session/hostile": ".titlebar",
    "call/c1": ".fact",
    "call/c4": ".fact",
    "calls": ".row.call",
    "find?q=postcode": "mark.hit",
    "find?q=owned": "mark.hit",
    "charts": ".panes.charts h2",
}
"""What each address shows when it is drawn."""


@pytest.fixture
def told(store: Delivery, records: Records) -> Delivery:
    """A conversation with a retried call, a failed tool and a cut answer; a failed call; an episode; hostile texts."""
    used = {"role": "assistant", "content": None, "tool_calls": [TOOL]}
    answer = {"choices": [{"index": 0, "message": used, "finish_reason": "tool_calls"}], "object": "chat.completion"}
    attempts = [
        Attempt(number=1, start_ns=0, end_ns=5 * MS, status=429, error_kind="rate_limit", wait_s=0.2),
        Attempt(number=2, start_ns=205 * MS, end_ns=900 * MS, status=200),
    ]
    done = [*SENT, used, {"role": "tool", "tool_call_id": "t1", "content": "postcode missing"}]
    failed = ErrorInfo(kind="other", type="ValueError", message="postcode missing")
    refused = ErrorInfo(kind="bad_input", type="BadRequestError", message="max_tokens: too small", status=400)
    hostile = [{"role": HOSTILE, "content": HOSTILE}, {"role": "user", "content": HOSTILE}]
    store.write(
        records.session("chat", start_ns=START_NS, end_ns=START_NS + 9 * SECOND, user_id="mara", outcome="success"),
        records.call(
            call_id="c1", session_id="chat", messages=SENT, response=Response(body=raw(answer)), attempts=attempts,
            retries=1,
        ),
        records.call(call_id="c2", session_id="chat", at_s=2, messages=done, answer="Which postcode"),
        event("chat", 1, "tool", name="look", duration_ns=9 * MS, tool_call_id="t1", error=failed),
        records.session("bad", start_ns=START_NS + 60 * SECOND, name="eval", outcome="failure"),
        records.call(call_id="c3", session_id="bad", at_s=60, outcome="error", error=refused),
        records.session(
            "hostile", start_ns=START_NS + 90 * SECOND, name=HOSTILE, user_id=HOSTILE, metadata={HOSTILE: "x" * 9999}
        ),
        records.call(call_id="c4", session_id="hostile", at_s=90, messages=hostile, answer=HOSTILE),
        event("hostile", 91, HOSTILE, name=HOSTILE, data={HOSTILE: [HOSTILE]}),
        records.session("episode", start_ns=START_NS + 120 * SECOND, name="grid", task_id="pick", outcome="success"),
    )  # fmt: skip
    for number, reward in enumerate((-0.02, -0.02, 0.98)):
        at_s, step_id = 121 + number, f"s{number}"
        place = Place(session_id="episode", timestep_id=step_id)
        store.write(
            step(step_id, session_id="episode", index=number, start_ns=START_NS + at_s * SECOND),
            records.call(
                call_id=f"p{number}", place=place, at_s=at_s, answer="south", messages=done if number == 2 else SENT
            ),
            event("episode", at_s + 0.2, "action", timestep_id=step_id, data={"move": "south"}),
            event(
                "episode", at_s + 0.3, "environment", timestep_id=step_id, reward=reward, data={"after": f"at {number}"}
            ),
        )
    return store


def test_new_rows_do_not_move_the_page(told: Delivery, records: Records, tab: Open) -> None:
    one = tab(told.url, viewport={"width": 1440, "height": 300})
    told.write(*(records.session(f"old{number}", start_ns=START_NS + number * SECOND) for number in range(9)))
    one.open("", "text=live")
    told.write(records.session("new1", start_ns=START_NS + 200 * SECOND, name="arrived"))
    one.tab.wait_for_selector("[data-id=new1]")
    one.tab.evaluate("document.getElementById('main').scrollTop = 200")
    one.press("j", "j", "j")
    chosen = """() => {
      const row = document.querySelector("[aria-selected=true]");
      return [row.dataset.id, row.getBoundingClientRect().top];
    }"""
    before = one.tab.evaluate(chosen)
    told.write(records.session("new2", start_ns=START_NS + 201 * SECOND))
    one.tab.wait_for_selector("button.new:has-text('1 new above')")
    assert one.tab.evaluate(chosen) == before
    assert one.tab.evaluate("document.activeElement.dataset.id") == before[0]
    one.press(".")
    one.tab.wait_for_selector("button.new", state="hidden")
    assert one.tab.evaluate("document.getElementById('main').scrollTop") == 0
    one.tab.wait_for_selector("[data-id=new2]")


@pytest.mark.parametrize(
    ("place", "selector", "comes"),
    [
        ("calls", "[data-id=c1]", ".row.call[data-id=late]"),
        ("find?q=parcel", ".summary", "mark.hit"),
        ("charts", ".slot", ".slot[aria-label*='08:53'][aria-label*='3 calls']"),
        ("compare?a=chat&b=bad", ".row.pair", ".row.pair:has-text('a parcel')"),
        ("session/chat", "[data-entry=c2]", "[data-entry=late]"),
        ("call/c2", "text=call 2 of 2", "text=call 2 of 3"),
    ],
)
def test_every_page_is_live(told: Delivery, records: Records, tab: Open, place: str, selector: str, comes: str) -> None:
    one = tab(told.url, place, selector)
    one.tab.wait_for_selector("text=live")
    assert one.tab.locator(comes).count() == 0
    told.write(records.call(call_id="late", session_id="chat", at_s=4, answer="a parcel"))
    one.tab.wait_for_selector(comes)


def test_page_shows_a_killed_process_without_a_write(told: Delivery, records: Records, tab: Open) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        told.write(records.session("left", start_ns=START_NS, process=identity_of(process.pid)))
        one = tab(told.url, alone=True)
        one.tab.clock.install()
        one.tab.reload()
        one.tab.wait_for_selector("[data-id=left]:has-text('in progress')")
        one.tab.wait_for_selector("text=live")
        process.kill()
    one.tab.clock.fast_forward(60_000)
    one.tab.wait_for_selector("[data-id=left]:has-text('interrupted')")


def test_empty_page_fills_without_reload(records: Records, tab: Open, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/late.db"
    one = tab(url)
    for place in ("calls", "charts", ""):
        one.open(place, "text=fills by itself")
        assert f"callspan --store {url} run app.py" in one.tab.inner_text("pre")
    one.tab.wait_for_selector(".state:has-text('live, waiting for the first record')")
    keep(url, records.session("s1", start_ns=START_NS), records.call(call_id="c1", session_id="s1"))
    one.tab.wait_for_selector("[data-id=s1]")
    one.tab.wait_for_selector(".state:has-text('1 session, 1 call')")


def test_redraw_keeps_choices_and_input(told: Delivery, records: Records, tab: Open) -> None:
    one = tab(told.url, "session/chat", "[data-entry=c2]")
    one.tab.wait_for_selector("text=live")
    one.tab.click("[aria-label=Conversation] summary")
    one.tab.click("[role=treeitem][data-id=c2]")
    told.write(records.call(call_id="late", session_id="chat", at_s=4, answer="to all"))
    one.tab.wait_for_selector("[data-entry=late]")
    assert one.tab.locator("[aria-label=Conversation] details[open]").count() == 1
    assert one.tab.get_attribute("[role=treeitem][aria-selected=true]", "data-id") == "c2"
    assert one.tab.get_attribute(".picked", "data-entry") == "c2"
    running = {"response": None, "usage": None, "cost": None, "outcome": "in_progress", "part": "started"}
    own = {"call_id": "runs", "session_id": "chat", "at_s": 5, "process": identity_of(os.getpid())}
    told.write(records.call(**own, **running))
    one.tab.click("[data-entry=runs]")
    told.write(records.call(**own, answer="at last"))
    one.tab.wait_for_selector("[data-entry=runs]:has-text('at last')")
    assert one.tab.get_attribute(".picked", "data-entry") == "runs"
    one.open("", "[data-id=chat]")
    one.tab.fill("input.line", "user:ma")
    told.write(records.session("new1", start_ns=START_NS + 200 * SECOND))
    one.tab.wait_for_selector("[data-id=new1]")
    assert one.tab.input_value("input.line:focus") == "user:ma"


def test_course_and_conversation_are_linked(told: Delivery, tab: Open) -> None:
    one = tab(told.url, "session/chat", "[role=treeitem]")
    page = one.tab
    assert page.inner_text(".box.failed").split()[:2] == ["look", "call"]
    assert "postcode missing" in page.inner_text(".box.failed")
    assert page.locator(".box").count() == 1, "the run, the call and the result of a tool are one box"
    page.click("[role=treeitem][data-id=c2]")
    assert page.get_attribute("[data-entry=c2]", "class") == "turn picked"
    page.click("[data-entry=c1]")
    assert page.get_attribute("[role=treeitem][data-id=c1]", "aria-selected") == "true"
    assert "1 retry" in page.inner_text("[role=treeitem][data-id=c1]")


def test_tool_calls_with_equal_ids_have_their_own_results(store: Delivery, records: Records, tab: Open) -> None:
    """Some providers count the calls of each conversation."""
    used = {"role": "assistant", "content": None, "tool_calls": [TOOL]}
    answer = Response(body=raw({"choices": [{"index": 0, "message": used}], "object": "chat.completion"}))
    for number, found in enumerate(("mapped", "missing")):
        asked = [{"role": "user", "content": found}]
        done = [*asked, used, {"role": "tool", "tool_call_id": "t1", "content": found}]
        store.write(
            records.call(call_id=f"a{number}", session_id="chat", at_s=number * 4, messages=asked, response=answer),
            event("chat", number * 4 + 1, "tool", name="look", duration_ns=(number + 1) * MS, tool_call_id="t1"),
            records.call(call_id=f"b{number}", session_id="chat", at_s=number * 4 + 2, messages=done, answer="Done"),
        )
    one = tab(store.url, "session/chat", "[data-entry=b1]")
    for number, found in enumerate(("mapped", "missing")):
        box = one.tab.locator(f"[data-entry=a{number}] .box")
        assert (found in box.inner_text(), f"{number + 1} ms" in box.inner_text()) == (True, True)
        one.tab.locator(f"[role=treeitem][data-id^='chat-tool-{number * 4 + 1}']").click()
        assert one.tab.locator(f"[data-entry=a{number}].picked").count() == 1


def test_episode_opens_with_its_first_step_and_reward_curve(told: Delivery, records: Records, tab: Open) -> None:
    told.write(records.call(call_id="after", session_id="episode", at_s=125, answer="we are there"))
    one = tab(told.url, "session/episode", ".bigcurve")
    page = one.tab
    assert page.inner_text(".plot .said") == "+0.94", "the end of the curve has its own value"
    assert page.locator(".episode b.good").all_inner_texts() == ["+0.98"]
    assert page.locator("[role=row][aria-selected=true]").count() == 0
    assert page.inner_text("[aria-label=Conversation]").startswith("step 0\n")
    assert "we are there" in page.inner_text("[aria-label=Course]").partition("outside of steps")[2]
    one.press("j")
    assert page.get_attribute("[role=row][aria-selected=true]", "data-first") == "0", "the first key, the first step"
    assert page.locator("[aria-label=Conversation] .picked").count() == 1, "the call, and no turn of the step before"
    assert "step 1" in page.inner_text("[aria-label=Conversation]")
    page.locator(".episode [role=row][data-id]").last.click()
    said = page.inner_text("[aria-label=Conversation]")
    assert "so far +0.94" in said
    assert "postcode missing" in said.partition("Sent with this call")[2], "also what is no text"


def test_page_works_by_keyboard(told: Delivery, tab: Open) -> None:
    one = tab(told.url, "", ".row.session")
    one.press("n", "n", "n")
    assert one.tab.get_attribute("[aria-selected=true]", "data-id") == "chat"
    one.press("Enter")
    one.tab.wait_for_selector("[role=treeitem]")
    one.press("n", "n", "Enter")
    one.tab.wait_for_selector("h1:has-text('call 1 of 2')")
    one.press("]")
    one.tab.wait_for_selector("h1:has-text('call 2 of 2')")
    one.press("Escape")
    one.tab.wait_for_selector("[role=tree]")
    one.press("Escape")
    one.tab.wait_for_selector(".row.session")
    one.press("?")
    assert "next, previous mark" in one.tab.inner_text("dialog")
    one.press("Escape")
    one.tab.wait_for_selector("dialog", state="detached")
    one.press("/")
    one.tab.keyboard.type("postcode")
    one.press("Enter")
    one.tab.wait_for_selector("mark.hit")
    one.press("g", "a")
    one.tab.wait_for_selector(".row.call")
    assert one.tab.locator(".row.call[tabindex='0']").count() == 1, "one tab stop"
    one.open("compare", "form.filters input:focus")
    one.tab.keyboard.type("chat")
    one.press("Tab")
    one.tab.keyboard.type("bad")
    one.press("Enter")
    one.tab.wait_for_selector(".row.pair")


def test_hostile_text_is_not_interpreted(told: Delivery, tab: Open) -> None:
    one = tab(told.url)
    for place, selector in PLACES.items():
        one.open(place, selector)
        one.drawn()
        assert "owned" not in one.tab.title()[:5]
        assert one.tab.locator("main script, main iframe, main svg[onload], main img, main style").count() == 0
        assert one.tab.locator("a[href^='javascript'], a[href^='data']").count() == 0
        text = one.tab.inner_text("main")
        assert not {"\u202e", "\x1b", "\U000e0041"} & set(text)
        assert FAMILY in text or place != "session/chat", "what is joined is no disguise"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 1440), ("light", 360)])
def test_page_is_accessible(told: Delivery, tab: Open, scheme: str, width: int) -> None:
    one = tab(told.url, color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce")
    for place, selector in PLACES.items():
        one.open(place, selector)
        one.drawn()
        assert faults(one.tab) == [], place
    dark = one.tab.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(18, 20, 23)"
    assert dark is (scheme == "dark")


def test_numbers_words_and_commands_are_formatted(told: Delivery, tab: Open) -> None:
    one = tab(told.url)

    def of(module: str, function: str, value: object) -> Any:
        return one.tab.evaluate(f"async value => (await import('/static/{module}.js')).{function}(value)", value)

    found = [of("format", "brief", number) for number in (0, 12.5, 999.9, 1000, 120_000, 250_000, 1e8, 3.97e9)]
    assert found == ["0", "12.5", "1k", "1k", "120k", "250k", "100M", "3.97G"]
    amounts = [of("format", "money", text) for text in ("0", "0.0000544", "0.00213", "0.0996", "0.25", "12.345")]
    assert amounts == ["$0.00", "$0.0000544", "$0.00213", "$0.0996", "$0.25", "$12.34"]
    assert of("format", "shell", "chat-8843") == "chat-8843"
    assert of("format", "shell", "$(touch x)'s") == "'$(touch x)'\\''s'"
    for user in ("o'brien", 'Mara "S" Smith', "a\\b", 'C:\\My "files"\\', "", "plain"):
        word = "user:" + of("filters", "quoted", user)
        assert arguments(word) == [f"--user={user}"], user
        assert of("filters", "wordsOf", f"error {word} x") == ["error", word, "x"]
    one.open("find?q=postcode", "mark.hit")
    assert one.tab.locator("p.summary code").inner_text() == f"callspan --store {told.url} calls --text=postcode"


@pytest.mark.parametrize("width", [1280, 360])
def test_missing_store_is_reported_beside_earlier_data(told: Delivery, tab: Open, width: int) -> None:
    one = tab(told.url, "", ".row.session", viewport={"width": width, "height": 740})
    one.tab.wait_for_selector(".state .live", state="attached")
    path = Path(told.url.removeprefix("sqlite:///"))
    path.rename(path.with_suffix(".away"))
    one.tab.wait_for_selector(".state .mark")
    assert one.tab.is_visible(".row.session")
    path.with_suffix(".away").rename(path)
    one.tab.wait_for_selector(".state .live", state="attached")
    path.rename(path.with_suffix(".away"))
    one.tab.click(".state button")
    one.tab.wait_for_selector("main >> text=there is no such file")
    one.console.clear()  # the browser names each answer of 503


def test_long_course_loads_by_scrolling_and_keys(store: Delivery, records: Records, tab: Open) -> None:
    made = [event("s1", 0, "note", event_id=f"e{number:04}", time_ns=START_NS + number) for number in range(2500)]
    store.write(records.session("s1", start_ns=START_NS), *made)
    one = tab(store.url, "session/s1", ".entry[data-id=e0999]")
    one.press("j", "End")
    one.tab.wait_for_selector(".entry[data-id=e1999]")
    one.tab.evaluate("document.querySelector('[aria-label=Conversation]').scrollTop = 1e9")
    one.tab.wait_for_selector(".entry[data-id=e2499]")
    found = one.tab.evaluate("[...document.querySelectorAll('.entry[data-id]')].map(row => row.dataset.id)")
    assert found == [record.event_id for record in made]
    assert one.tab.evaluate("document.activeElement.dataset.id") == "e0999"
    store.write(event("s1", 0, "note", event_id="live", time_ns=START_NS + 9999))
    one.tab.wait_for_selector(".entry[data-id=live]")


@pytest.fixture
def reader(tab: Open, demo: str) -> Reader:
    return Reader(tab(demo, "", "text=live").tab)


def test_finding_the_failed_call_and_its_reason(reader: Reader) -> None:
    reader.activate("link", "bad input 400", among=reader.within("region", "Now"))
    reader.reads("region", "Messages", "max_tokens: must be greater than or equal to 1")


def test_finding_the_retried_call(reader: Reader) -> None:
    reader.activate("link", "Calls", among=reader.within("navigation", "Pages"))
    reader.within("grid", "Calls").wait_for()  # the first page has such a button too
    reader.activate("button", "retried")
    reader.within("button", "retried", pressed=True).wait_for()
    reader.activate("row", "1 retry", among=reader.within("grid", "Calls"))
    reader.reads("region", "Facts", "then waited")


def test_finding_the_best_session_and_its_last_message(reader: Reader) -> None:
    reader.activate("button", "scores")
    reader.within("columnheader", "scores ↓").wait_for()
    # The worst come first.
    reader.within("treegrid", "Sessions").get_by_role("link", name="grid-").last.click()
    reader.activations += 1
    reader.within("grid", "Steps").wait_for()
    assert "+1.4" in reader.words("region", "Course")
    reader.within("grid", "Steps").get_by_role("row").last.click()
    reader.activations += 1
    reader.reads("region", "Conversation", "assistant")
    assert "so far +1.4" in reader.words("region", "Conversation")


def test_finding_the_first_difference_of_two_rollouts(reader: Reader) -> None:
    reader.activate("link", "compare the best and the worst")
    reader.reads("region", "Compared", "First difference")
    assert "grid-" in reader.words("columnheader", re.compile("^A "))
    assert "+1.4" in reader.words("columnheader", re.compile("^A "))
    assert "\N{MINUS SIGN}1.05" in reader.words("columnheader", re.compile("^B "))


PLACES_OF_A_REPORT = (
    "", "session/s1", "calls", "charts", "?q=failed", "?q=retries:1", "nowhere", "session/none",
    "find?q=x",
)  # fmt: skip


def judged(world: World) -> None:
    """Sessions of two users with two versions of a prompt, on two days; a judge scored two of them."""
    day = 24 * 3600 * SECOND
    for number, (user, version, reward) in enumerate((("ann", 3, 1.0), ("ann", 4, 0.0), ("bob", 4, 1.0))):
        metadata = {"prompt_version": version}
        start = START_NS + number * day // 2
        world.session(f"s{number}", reward, user_id=user, start_ns=start, success=reward > 0, metadata=metadata)
        world.chat([{"role": "user", "content": f"Who is {user}?"}], f"First of {user}.", f"s{number}")
        world.chat(QUESTION, f"Last of {user}.", f"s{number}", choice={"finish_reason": "length"})
        world.chat(QUESTION, "", f"s{number}")
    world.reward("s0", 0.8, objective="judge")
    world.reward("s2", 0.4, objective="judge")
    world.chat(QUESTION, "Loose.")


@pytest.fixture
def saved(tmp_path: Path) -> str:
    """The address of the report."""
    return (tmp_path / "report.html").as_uri()


def test_report_opens_sessions_and_calls(world: World, report: Report, saved: str, tab: Open) -> None:
    judged(world)
    report()
    one = tab(saved, "", ".row.session")
    assert one.tab.locator(".row.session:not(.loose)").count() == 3
    assert one.tab.inner_text(".row.loose .words") == "? → Loose."
    assert "All of it." in one.tab.inner_text("section.band")
    assert not one.tab.locator("form").filter(visible=True).count(), "nothing to filter by"
    one.open("?q=user:ann", "text=This works with the store: callspan --store")
    one.open("", ".row.session")
    one.tab.get_by_role("link", name="Who is bob?").click()
    one.tab.get_by_role("tree", name="Course").get_by_text("Last of bob.").wait_for()
    one.tab.get_by_role("link", name="gpt-5").first.click()
    one.tab.wait_for_selector("h1:has-text('call 1 of 3')")
    assert "not in this file" in one.tab.inner_text("main")
    one.press("]")
    one.tab.wait_for_selector("h1:has-text('call 2 of 3')")


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1440), ("light", 360)])
def test_report_is_accessible(world: World, report: Report, saved: str, tab: Open, scheme: str, width: int) -> None:
    play(world)
    report()
    one = tab(saved, color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce")
    for place in PLACES_OF_A_REPORT:
        one.open(place, "main")
        one.drawn()
        assert faults(one.tab) == [], place
