"""The application's own words: metadata as filters, columns and tables; groups compared; ratings; what was said."""

from __future__ import annotations

import base64
import random
import re
import struct
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import openai
import pytest
from tests.support.commands import ask
from tests.support.records import SECOND, START_NS, Records, event, raw, reward
from tests.support.waiting import HANG_MS
from tests.support.world import World
from tests.view.conftest import Delivery, Open, Shown, faults, two_versions

import callspan
from callspan import formatting
from callspan.records import Attempt, Cost, ErrorInfo, Response, Timing
from callspan.testing import ScriptedProvider

DAY = 24 * 3600 * SECOND


def test_metadata_are_filters_and_columns_that_the_browser_keeps(store: Delivery, records: Records, tab: Open) -> None:
    store.write(*two_versions(records))
    one = tab(store.url, "", ".row.session")
    page = one.tab
    page.select_option("select[aria-label=prompt_version]", label="v1")
    page.wait_for_selector(".sums-line:has-text('6 rows')")
    page.click("button:has-text('save this view')")
    assert "--meta=prompt_version=v1" in page.inner_text(".export pre") or page.locator(".export").count() == 1
    page.click(".export summary")
    assert "export openai-session -o calls.jsonl --meta=prompt_version=v1" in page.inner_text(".export pre")
    page.click(".columns summary")
    page.check(".columns label:has-text('prompt_version') input")
    assert page.inner_text(".row.head >> nth=0").split()[-1] == "prompt_version"
    assert page.inner_text(".row.session >> nth=0").split()[-1] == "v1"
    one.open("", ".row.session")
    page.reload()
    page.wait_for_selector(".row.session")
    assert {row.split()[-1] for row in page.locator(".row.session").all_inner_texts()} == {"v0", "v1"}
    page.select_option("select[aria-label='saved views']", index=1)
    page.wait_for_selector(".sums-line:has-text('6 rows')")
    assert "prompt_version" in page.url


def test_two_groups_are_compared_as_the_command_does(store: Delivery, records: Records, tab: Open) -> None:
    store.write(*two_versions(records))
    one = tab(store.url, "compare", "form[aria-label=Groups]")
    one.tab.wait_for_selector("select[aria-label='Group B'] option:checked:has-text('v1')", state="attached")
    one.tab.click("text=compare the groups")
    one.tab.wait_for_selector(".groups .row.pair[data-id=success]")
    row = " ".join(one.tab.inner_text(".groups [data-id=success]").split())
    assert row.startswith("success 0 % 100 % +100 points")
    out = ask("--store", store.url, "compare", "meta:prompt_version=v0", "=v1").out
    (line,) = [line for line in out.splitlines() if line.startswith("success")]
    low = line.partition("(")[2].partition(" to")[0]
    assert low.lstrip("+") in row, "the interval of the command"
    assert "6 sessions" in one.tab.inner_text("[aria-label=Compared]")


GROUPS = "groups?a=meta:prompt_version%3Dv0&b=%3Dv1"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 1440), ("light", 360)])
def test_comparisons_are_accessible(store: Delivery, records: Records, tab: Open, scheme: str, width: int) -> None:
    store.write(*two_versions(records))
    one = tab(store.url, color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce")
    for place, selector in (("compare", "option:has-text('v1')"), (GROUPS, ".pair"), ("compare?a=c00&b=c01", ".pair")):
        one.tab.goto(f"{one.base}#/{place}")
        one.tab.wait_for_selector(selector, state="attached")
        one.drawn()
        assert faults(one.tab) == [], place
        for part in one.tab.locator("main :is(button[type=submit], .groups .row.pair > :nth-child(4))").all():
            edge = part.bounding_box()
            assert edge["x"] + edge["width"] <= width, "within the window"


def test_differences_say_what_is_known_of_them(store: Delivery, records: Records, tab: Open) -> None:
    store.write(*two_versions(records))
    one = tab(store.url, GROUPS, ".groups .row.pair[data-id=success]")

    def said(name: str) -> str:
        return " ".join(one.tab.inner_text(f".groups [data-id='{name}']").split())

    assert said("calls").startswith("calls 1 1 the same")
    assert said("cost").startswith("cost $0.0000123 $0.0000123 the same"), "an amount is a text"
    assert "(+" in said("success")
    assert said("success").count("points") == 1
    assert one.tab.locator("a.linked:has-text('6 sessions')").count() == 2
    hrefs = one.tab.locator("a.linked:has-text('6 sessions')").evaluate_all("all => all.map(link => link.hash)")
    assert [unquote(link) for link in hrefs] == [f"#/calls?q=meta:prompt_version=v{number}" for number in (0, 1)]
    texts = one.tab.evaluate("""async () => { const { differenceText } = await import('/static/groups.js');
      return [1e5, -3e5, 2e6].map(ns => differenceText({ kind: 'sum', name: 'duration_ns' }, ns)); }""")
    assert texts == ["+0.1 ms", "\N{MINUS SIGN}0.3 ms", "+2 ms"]


MINUS = "\N{MINUS SIGN}"
WRITTEN: list[tuple[str, Any, Any, list[str]]] = [
    ("duration_ns", 14.4e6, 12.8e6, ["14.4 ms", "12.8 ms", f"{MINUS}1.6 ms"]),
    ("duration_ns", 14.4e6, 13.0e6, ["14 ms", "13 ms", f"{MINUS}1 ms"]),
    ("duration_ns", 1.44e9, 1.36e9, ["1.44 s", "1.36 s", f"{MINUS}0.08 s"]),
    ("duration_ns", 0.2e6, 30e6, ["0.2 ms", "30.0 ms", "+29.8 ms"]),
    ("duration_ns", 70e9, 75e9, ["1 min 10", "1 min 15", "+5.0 s"]),
    ("cost_usd", "0.00255", "0.00314", ["$0.00255", "$0.00314", "+$0.00059"]),
    ("input_tokens", 12_460, 12_540, ["12.46k", "12.54k", "+0.08k"]),
    ("calls", 1, 2.5, ["1", "2.5", "+1.5"]),
    ("success", 1 / 3, 2 / 3, ["33.3 %", "66.7 %", "+33.3 points"]),
    ("success", 0.5, 1, ["50 %", "100 %", "+50 points"]),
]
ROWS = """async rows => {
  const { rowOf } = await import('/static/groups.js');
  const textOf = cell => (cell.querySelector('b') || cell).textContent;
  return rows.map(row => [...rowOf(row, 5).children].slice(1, 4).map(textOf));
}"""


def test_differences_agree_with_their_values(store: Delivery, tab: Open) -> None:
    """14 ms and 13 ms are not 2 ms apart."""
    rows = [
        {"kind": name if name == "success" else "sum", "name": name, "a": a, "b": b, "numbers": [9, 9]}
        | {"difference": float(b) - float(a)}
        for name, a, b, _ in WRITTEN
    ]
    texts = tab(store.url).tab.evaluate(ROWS, rows)
    assert texts == [said for *_, said in WRITTEN]


def test_user_is_one_fact_of_a_call(store: Delivery, records: Records, tab: Open) -> None:
    """Also if it is known from the metadata of the call."""
    for number in range(2):
        metadata = {"user_id": f"u{number}", "variant": f"v{number}"}
        store.write(records.call(call_id=f"c{number}", metadata=metadata))
    one = tab(store.url, "compare?a=c0&b=c1", ".row.pair")
    facts = one.tab.locator(".row.pair [role=rowheader]").all_inner_texts()
    assert [fact for fact in facts if fact in ("user id", "meta:user_id", "meta:variant")] == [
        "user id",
        "meta:variant",
    ]
    one.open("call/c0", ".fact")
    assert [name for name in one.tab.locator(".fact dt").all_inner_texts() if "user" in name] == ["user"]


def test_groups_that_cannot_be_compared_are_named(records: Records, shown: Shown) -> None:
    page = shown(*two_versions(records))
    for query, status in (("a=meta:prompt_version=v0&b==v9", 404), ("a=%3D&b=%3D", 400), ("a=x", 400)):
        answer = page.ask(f"/api/groups?{query}")
        assert (answer.status, bool(answer.json["error"])) == (status, True), query


def test_all_charts_have_one_time_axis_and_tables_are_by_cost(store: Delivery, records: Records, tab: Open) -> None:
    """A session without calls is on the axis, too."""
    failed: dict[str, Any] = {"outcome": "error", "error": ErrorInfo(kind="server", type="E", status=500)}
    store.write(
        *two_versions(records),
        records.call(at_s=5 * 24 * 3600, **failed),
        records.call(at_s=5 * 24 * 3600, metadata={"user_id": "u1"}),
        records.call(at_s=5 * 24 * 3600, metadata={"user_id": "u2"}, outcome="cancelled"),
        records.session("early", start_ns=START_NS - 3 * DAY, end_ns=START_NS - 3 * DAY + 9, outcome="success"),
        reward("r1", 1.0, session_id="early", scope="session"),
        reward("r2", 0.5, session_id="s01", scope="session"),
    )
    page = tab(store.url, "charts", ".strip").tab
    strips = page.locator(".strip h2")
    names = [text.split("  ")[0].splitlines()[0].strip() for text in strips.all_inner_texts()]
    assert [name.split()[0] for name in names] == ["Calls", "Cost", "Tokens", "Time", "First", "Reward"]
    slots = [page.locator(".strip").nth(at).locator("a.slot").count() for at in range(len(names))]
    assert slots == [9] * 6, "days"
    last = str(page.locator(".strip >> nth=0").locator("a.slot").last.get_attribute("aria-label"))
    assert "3 calls, 1 failed (33 %), 1 cancelled" in last
    assert page.locator(".strip >> nth=0").locator("rect.wait").count() == 1, "it did not end well"
    tables = page.locator(".sums h2").all_inner_texts()
    assert tables == ["User", "Model", "prompt_version", "seed"]


def test_tables_begin_with_the_dearest(records: Records, shown: Shown) -> None:
    cheap = [records.call(metadata={"user_id": "cheap"}, cost=None) for _ in range(3)]
    page = shown(*cheap, records.call(metadata={"user_id": "dear"}))
    assert [row["keys"] for row in page.get("/api/table?by=user")["rows"]] == [["dear"], ["cheap"]]
    assert page.ask("/api/table?by=meta:").status == 400


def test_answer_session_and_call_are_rated_and_tagged(store: Delivery, records: Records, tab: Open) -> None:
    store.write(*two_versions(records, 1))
    one = tab(store.url, "session/s00", ".thumbs")
    one.tab.click("button[aria-label='rate this answer: bad']")
    one.tab.wait_for_selector(".thumbs >> text=kept")
    assert not one.tab.is_visible("[aria-label=Label]")
    one.tab.click(".rating summary")
    one.tab.fill("[aria-label=Label]", "off topic")
    one.tab.fill("[aria-label=Note]", "it is about trees")
    one.tab.click("form[aria-label=Rate] >> text=rate")
    one.tab.wait_for_selector("text=it is about trees")
    one.tab.fill("[aria-label=Tag]", "golden")
    one.tab.press("[aria-label=Tag]", "Enter")
    one.tab.wait_for_selector("[aria-label=Conversation] >> text=golden")
    assert "tag golden" in " ".join(one.tab.inner_text("[aria-label=Conversation]").split()), "no feedback"
    for label, found in (("golden", ["s00"]), ("thumbs_down", ["s00"]), ("off topic", ["s00"]), ("other", [])):
        out = ask("--store", store.url, "--json", "sessions", "--label", label)
        assert [row["session_id"] for row in out.json] == found, label


def test_tool_result_appears_once(store: Delivery, records: Records, tab: Open) -> None:
    asked = {"role": "user", "content": "Is it raining?"}
    used = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    uses = {"role": "assistant", "content": None, "tool_calls": [used]}
    first = Response(body=raw({"object": "chat.completion", "choices": [{"index": 0, "message": uses}]}))
    done = [asked, uses, {"role": "tool", "tool_call_id": "t1", "content": "drizzle-9"}]
    store.write(
        records.session("s1", start_ns=START_NS, outcome="success"),
        records.call(call_id="c1", session_id="s1", messages=[asked], response=first),
        records.call(call_id="c2", session_id="s1", at_s=2, messages=done, answer="Yes."),
    )
    one = tab(store.url, "call/c2", ".box")
    assert one.tab.inner_text("[aria-label=Messages]").count("drizzle-9") == 1
    one.open("session/s1", ".box")
    assert one.tab.inner_text("[aria-label=Conversation]").count("drizzle-9") == 1


LONG = "\n".join(f"line {number}" for number in range(40))
WIDE = "wide " * 2000
LONG_RESULTS: dict[str, tuple[object, list[str], str]] = {
    # The result, what folds it, and the last words on demand.
    "lines": (LONG, ["28 more lines"], "line 39"),
    "one line": (WIDE, ["9,400 more characters"], "wide"),
    "long first line": (f"{WIDE}\n{LONG}", ["41 more lines"], "line 39"),
    "value of a key": ({"found": WIDE, "at": 3}, ["9,400 more characters"], "wide"),
    "lines of a key": ({"found": LONG, "at": 3}, ["28 more lines"], "line 39"),
    "items": ([{"at": number} for number in range(20)], ["8 more lines"], "19"),
    "long items": ([{"text": WIDE}], ["9,400 more characters"], "wide"),
    "many items of a key": ({"rows": [{"at": number} for number in range(20)]}, ["8 more lines"], "19"),
    "parts": ([{"type": "text", "text": LONG}], ["28 more lines"], "line 39"),
    "short": ("line 1\nline 2", [], ""),
}


@pytest.mark.parametrize("name", LONG_RESULTS)
def test_long_tool_result_is_folded(store: Delivery, records: Records, tab: Open, name: str) -> None:
    result, folds, last = LONG_RESULTS[name]
    run = event("e1", session_id="s1", event_type="tool", name="look", time_ns=START_NS, data={"result": result})
    store.write(records.session("s1", start_ns=START_NS), run)
    page = tab(store.url, "session/s1", ".box").tab
    assert page.locator(".box summary").all_inner_texts() == folds
    if folds:
        assert len(page.inner_text(".box")) < 1000
        page.click(".box summary")
        assert page.inner_text(".box details").strip().endswith(last)


def test_raw_ids_are_displayed_on_demand(store: Delivery, records: Records, tab: Open) -> None:
    ids = {"call_id": "call-raw-1", "session_id": "session-raw-1", "trace_id": "ab" * 16, "span_id": "cd" * 8}
    response = Response(body=raw({"object": "chat.completion", "choices": []}), id="chatcmpl-raw-1")
    attempts = [Attempt(number=1, start_ns=0, request_id="req-raw-1")]
    result = {"role": "tool", "tool_call_id": "toolu-raw-1", "content": "rain"}
    store.write(
        records.session("session-raw-1", start_ns=START_NS, name="desk"),
        records.call([result], **ids, response=response, attempts=attempts),
    )
    one = tab(store.url, "call/call-raw-1", ".ids")
    shown = one.tab.inner_text("main")
    assert [word for word in re.split(r"\s", shown) if "raw-1" in word or "abab" in word] == []
    one.tab.click(".ids summary")
    opened = one.tab.inner_text(".ids")
    for ident in (*ids.values(), "chatcmpl-raw-1", "req-raw-1"):
        assert ident in opened
    one.open("session/session-raw-1", ".ids")
    assert "raw-1" not in one.tab.inner_text("main")
    one.tab.click(".ids summary")
    assert "session-raw-1" in one.tab.inner_text(".ids")


def test_next_unrated_session_of_the_list_has_a_key(store: Delivery, records: Records, tab: Open) -> None:
    """Each that is rated, by whichever form, is passed over; a tag is no rating, nor is a program's reward."""
    for at in range(6):
        session_id = f"s{at}"
        store.write(
            records.session(session_id, start_ns=START_NS + at * SECOND, name="x" if at else "other"),
            records.call(
                [{"role": "user", "content": f"question {session_id}"}],
                "!",
                call_id=f"c{at}",
                session_id=session_id,
                at_s=at,
            ),
        )
    store.write(
        reward("r1", session_id="s4", source="human", objective="feedback", label="off topic", value=None),
        reward("r2", session_id="s3", source="human", objective="tag", label="golden", value=None),
        reward("r3", session_id="s2", source="human", scope="call", call_id="c2", objective="feedback", value=1.0),
        reward("r4", session_id="s1", source="environment", value=1.0),
    )
    one = tab(store.url, "?q=name:x", ".row.session")
    one.open("session/s5", ".rating")

    def goes_to(session_id: str) -> None:
        one.press("u")
        one.tab.wait_for_url(f"**/#/session/{session_id}")
        one.tab.wait_for_selector(f".titlebar h1:has-text('question {session_id}')")

    def rate(thumb: str) -> None:
        one.tab.click(f".rating >> text={thumb}")
        one.tab.wait_for_selector(".rating >> text=kept")

    goes_to("s3")
    goes_to("s1")
    goes_to("s5")
    rate("good")
    goes_to("s3")
    rate("bad")
    goes_to("s1")
    one.press("u")
    one.tab.wait_for_selector(".rating >> text=no other session is unrated")


def test_next_unrated_call_is_one_of_its_session_or_of_the_list(store: Delivery, records: Records, tab: Open) -> None:
    for number in range(4):
        store.write(
            records.call(call_id=f"c{number}", session_id=f"s{number // 2}", at_s=number, model=f"m{number % 2}")
        )
    one = tab(store.url, "call/c1", ".rating")
    one.tab.click(".rating >> text=next unrated")
    one.tab.wait_for_url("**/#/call/c0")
    one.open("calls?q=model:m0", ".row.call")
    one.open("call/c0", ".rating")
    one.press("u")
    one.tab.wait_for_url("**/#/call/c2")


AMOUNTS = (
    "0", "0.000", "1E+2", "0.0500", "0.5", "0.1234", "0.195", "0.1955", "0.1965", "0.000000123456", "0.0099996",
    "0.9994", "0.9996", "0.999", "1", "1.005", "1.015", "1.025", "2.675", "12345678.9", "12345678901234567890.125",
    "-0.0500", "-0.0000004", "-1.999", "1E-12", "1E-30", "9.995E-7", "1E-400", "1E-401", "1E+400", "1E+401", "NaN",
)  # fmt: skip


def test_money_has_the_same_digits_on_the_page_and_in_commands(tab: Open, store: Delivery, records: Records) -> None:
    chance = random.Random(7)
    drawn = [f"{chance.randint(-(10**8), 10**8)}E{chance.randint(-14, 2)}" for _ in range(500)]
    amounts = [*AMOUNTS, *drawn]
    store.write(records.call(call_id="c1"))
    page = tab(store.url).tab
    on_page = page.evaluate(
        "async all => { const { money } = await import('/static/format.js'); return all.map(money); }", amounts
    )
    in_commands = [formatting.money(Decimal(usd)) for usd in amounts]
    minus = "\N{MINUS SIGN}"
    assert {usd: text.replace(minus, "-") for usd, text in zip(amounts, on_page, strict=True)} == dict(
        zip(amounts, in_commands, strict=True)
    )


def test_session_whose_level_keeps_no_words_says_so(store: Delivery, records: Records, tab: Open) -> None:
    """In the list, in a folded group and in the command; one that has its words does not."""
    for number, level in enumerate(("full", "metadata", "off")):
        about = {"user_id": "mara", "content_level": level, "start_ns": START_NS + number * SECOND}
        store.write(records.session(f"s{number}", **about), records.call([], session_id=f"s{number}"))
    for number in range(3):
        about = {"group_id": "g", "content_level": "metadata", "start_ns": START_NS + (9 + number) * SECOND}
        store.write(records.session(f"g{number}", **about), records.call([], session_id=f"g{number}"))
    one = tab(store.url, "", ".row.session")
    marks = "all => all.map(row => row.querySelector('.marks').innerText)"
    assert one.tab.locator(".row.session").evaluate_all(marks) == ["not kept", "not kept", "not kept", ""]
    said = ask("--store", store.url, "sessions").out
    assert said.count("not kept") == 5


MARKDOWN = """Run:
```sh
ls **not bold**
```
| city | rain | sky | wind |
|---|---:|:---:|:--|
| Jena | `9` mm | grey | |
End **now**."""


def test_code_and_tables_of_markdown_are_drawn(store: Delivery, records: Records, tab: Open) -> None:
    store.write(records.call(call_id="c1", answer=MARKDOWN))
    page = tab(store.url, "call/c1", ".text table").tab
    assert page.inner_text(".text pre.code") == "ls **not bold**"
    assert page.locator(".text td").all_inner_texts() == ["Jena", "9 mm", "grey", ""]
    aligned = "all => all.map(one => getComputedStyle(one).textAlign)"
    for cells in ("th", "td"):
        assert page.locator(f".text {cells}").evaluate_all(aligned) == ["left", "right", "center", "left"]
    assert page.locator(".text b").all_inner_texts() == ["now"]


def test_tokens_have_their_probabilities_where_recorded(store: Delivery, records: Records, tab: Open) -> None:
    tokens = [
        {"token": "Yes", "logprob": -0.1, "top_logprobs": []},
        {"token": ".", "logprob": -2.3, "top_logprobs": []},
    ]
    choice = {"index": 0, "message": {"role": "assistant", "content": "Yes."}, "logprobs": {"content": tokens}}
    body = {"object": "chat.completion", "choices": [choice]}
    store.write(records.call(call_id="c1", response=Response(body=raw(body), finish_reasons=["stop"])))
    page = tab(store.url, "call/c1", "details.tokens").tab
    page.click("details.tokens summary")
    assert page.locator(".token").all_inner_texts() == ["Yes", "."]
    assert "10.0 %" in str(page.locator(".token").nth(1).get_attribute("title"))


def test_title_of_a_session_opens_no_conversation(store: Delivery, records: Records, tab: Open) -> None:
    asked = [{"role": "user", "content": "Write a title."}]
    title = {"metadata": {"purpose": "generate_session_title"}}
    store.write(
        records.session("s1", start_ns=START_NS),
        records.call(asked, "Lost parcel", session_id="s1", at_s=0, **title),
        records.call([{"role": "user", "content": "Where is it?"}], "In Bonn.", session_id="s1", at_s=1),
    )
    page = tab(store.url, "session/s1", ".aside summary").tab
    assert page.inner_text("h1").endswith("Where is it?")
    assert page.inner_text(".aside summary") == "generate session title: Lost parcel"
    assert not page.is_visible(".aside .turn")
    assert "Where is it?" in page.locator("[aria-label=Conversation] .turn:visible").first.inner_text()


def test_heads_of_calls_sort_and_then_times_have_days(store: Delivery, records: Records, tab: Open) -> None:
    usd = {"c1": "0.01", "c2": "0.03", "c3": "0.02"}
    for at, (call_id, cost) in enumerate(usd.items()):
        timing = Timing(start_ns=START_NS + at * SECOND, duration_ns=SECOND)
        store.write(records.call(call_id=call_id, timing=timing, cost=Cost(usd=Decimal(cost), source="t")))
    page = tab(store.url, "calls", ".row.call").tab
    ids = "all => all.map(row => row.dataset.id)"
    assert page.locator(".row.call").evaluate_all(ids) == ["c3", "c2", "c1"]
    assert re.fullmatch(r"\d\d:\d\d:\d\d", page.inner_text(".row.call >> nth=0 >> .when"))
    page.click(".row.head button:has-text('cost')")
    page.wait_for_selector("[aria-sort=descending]:has-text('cost')")
    assert page.locator(".row.call").evaluate_all(ids) == ["c2", "c3", "c1"]
    assert re.fullmatch(r"\d+ \w+( \d{4})? \d\d:\d\d", page.inner_text(".row.call >> nth=0 >> .when"))
    page.click(".row.head button:has-text('started')")
    page.wait_for_selector("[aria-sort=descending]:has-text('started')")
    assert page.locator(".row.call").evaluate_all(ids) == ["c3", "c2", "c1"]


_SAMPLES = b"\x80" * 800
_FORMAT = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + struct.pack("<I", len(_SAMPLES))
SOUND = base64.b64encode(b"RIFF" + struct.pack("<I", len(_FORMAT + _SAMPLES)) + _FORMAT + _SAMPLES).decode()
"""A tenth of a second of silence."""
PDF = f"data:application/pdf;base64,{'JVBERi0x' * 40}"


@pytest.mark.parametrize("media", ["reference", "inline"])
def test_sound_has_a_player_or_its_setting_is_displayed(store: Delivery, tab: Open, media: Any) -> None:
    """A document that is kept is said to be kept."""
    sound: Any = {"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}}
    document: Any = {
        "type": "file",
        "file": {"filename": "a.pdf", "file_data": PDF},
    }
    with ScriptedProvider() as provider:
        handle = callspan.instrument(stores=store.url, media=media)
        client = openai.OpenAI(base_url=provider.openai_url, api_key="k")
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": [sound, document]}])
        handle.force_flush(HANG_MS)
        handle.uninstrument()
    page = tab(store.url, "", ".opened .turn").tab
    shown = page.inner_text(".opened")
    if media == "reference":
        assert page.locator("audio").count() == 0
        assert shown.count("CALLSPAN_MEDIA=inline") == 2
        return
    page.wait_for_function("document.querySelector('audio').readyState > 0")
    assert page.evaluate("document.querySelector('audio').duration") == pytest.approx(0.1, abs=0.01)
    assert "kept; the page cannot show it" in shown
    assert "not kept" not in shown


@pytest.mark.parametrize("media", ["reference", "inline"])
def test_image_or_its_setting_is_displayed(store: Delivery, tab: Open, media: Any) -> None:
    picture: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'iVBORw0KGgo' * 40}"}}
    with ScriptedProvider() as provider:
        handle = callspan.instrument(stores=store.url, media=media)
        client = openai.OpenAI(base_url=provider.openai_url, api_key="k")
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": [picture]}])
        handle.force_flush(HANG_MS)
        handle.uninstrument()
    page = tab(store.url, "", ".opened .turn").tab
    assert page.locator("img.image").count() == (1 if media == "inline" else 0)
    assert ("CALLSPAN_MEDIA=inline" in page.inner_text(".opened")) == (media == "reference")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.0, "+12,345"), (-1000000.0, "-1,000,000"), (0.12345, "+0.1235"), (999.94, "+999.9"),
        (1e14, "+100,000,000,000,000"), (1e15, "+1e+15"), (-1.23456e300, "-1.235e+300"),
    ],
)  # fmt: skip
def test_large_rewards_have_all_their_digits(value: float, text: str, store: Delivery, tab: Open) -> None:
    assert formatting.reward(value) == text
    one = tab(store.url)
    shown = one.tab.evaluate("async value => (await import('/static/format.js')).signed(value)", value)
    assert shown.replace("\N{MINUS SIGN}", "-") == text


def test_too_few_is_said_of_the_measures_that_have_too_few(world: World, tmp_path: Any) -> None:
    for number in range(40):
        world.session(f"s{number}", reward=float(number), experiment=f"e{number % 2}", task_id=None)
        world.chat(
            [{"role": "user", "content": "?"}], "!", f"s{number}", timing=Timing(start_ns=START_NS, duration_ns=9)
        )
    world.reward("s0", 1.0, objective="judge")
    world.reward("s1", 0.0, objective="judge")
    out = ask("--store", world.write(tmp_path / "calls.db"), "compare", "e0", "e1").out
    assert "Too few to tell: fewer than 5 values of score judge." in out
