"""Every example of the README, its pages and `examples/` has the stated effect, alone and in the order of its page."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.docs.conftest import Seen, Workplace, copy_store
from tests.support.commands import ask as in_process
from tests.support.pages import EFFECTS, ROOT, Example, examples, install_lines, pages
from tests.support.processes import ran
from tests.support.receiver import OtlpReceiver, ReceivedSpan
from tests.support.scale import FULL

PAGES = {page: found for page in pages() if (found := examples(page))}
EXAMPLES = [example for found in PAGES.values() for example in found]
RUN = [example for example in EXAMPLES if example.reason is None]
SEVERAL = [page for page, found in PAGES.items() if sum(example.reason is None for example in found) > 1]
"""Pages with several examples. A single example is covered by running it alone."""
ALONE = [
    example
    for example in RUN
    if example.page not in SEVERAL or (FULL and (example.kind == "python" or "store" in example.directives))
]
"""Examples to run alone: of single-example pages, and at full scale all that need no earlier one."""

Workplaces = Callable[[Example], Workplace]


def test_every_example_says_its_effect_or_why_it_is_not_run() -> None:
    silent = [example.id for example in RUN if not example.directives.keys() & set(EFFECTS)]
    assert silent == [], "put `<!-- example: calls=1 -->` or the like above"


def test_every_install_line_of_the_pages_has_an_example_that_is_run_with_it() -> None:
    stated = {line for page in pages() for line in install_lines(page)}
    assert stated == {example.requirement for example in RUN}


@pytest.mark.parametrize("example", ALONE, ids=lambda example: example.id)
def test_an_example_alone(example: Example, workplace: Workplaces, request: pytest.FixtureRequest) -> None:
    before = _before(example)
    where = workplace(example)
    where.save(PAGES[example.page])
    if example.directives.get("store") == "demo":
        copy_store(request.getfixturevalue("demo"), where.place)
    if example.kind == "python":
        _check([*before, example], where, [*before, example])
    else:
        _check([example], where, [example])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", SEVERAL, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_in_order(page: Path, workplace: Workplaces, request: pytest.FixtureRequest) -> None:
    """Python examples that continue each other are one program, as in a reader's interpreter."""
    runs = _runs([example for example in PAGES[page] if example.reason is None])
    for run in runs:
        where = workplace(run[-1])
        if any(example.directives.get("store") == "demo" for example in run):
            copy_store(request.getfixturevalue("demo"), where.place)
        where.save(run)
        _check(run, where, run)


def _runs(found: Sequence[Example]) -> list[list[Example]]:
    runs: list[list[Example]] = []
    for example in found:
        if example.kind != "python":
            runs.append([example])
        elif runs and "after" in example.directives and _goes_on(runs[-1][-1], example):
            runs[-1].append(example)
        else:
            runs.append([*_before(example), example])
    return runs


def _goes_on(previous: Example, example: Example) -> bool:
    return previous.kind == "python" and previous.requirement == example.requirement


def _before(example: Example) -> list[Example]:
    """The examples that an example continues, in order."""
    name = example.directives.get("after")
    if name is None or example.kind != "python":
        return []
    (previous,) = [each for each in PAGES[example.page] if each.directives.get("name") == name]
    return [*_before(previous), previous]


def _check(run: Sequence[Example], where: Workplace, stated: Sequence[Example]) -> None:
    where.forget_spans()
    before = where.seen()
    where.play(run)
    after = where.seen()
    for effect in ("calls", "sessions", "spans"):
        if all(effect in example.directives for example in stated):
            _check_number(effect, [example.directives[effect] for example in stated], before, after)
    for example in stated:
        for effect, value in example.directives.items():
            if effect == "prints":
                assert value in after.output, f"{example.id} does not print {value!r}:\n{after.output[-2000:]}"
            elif effect == "writes":
                assert (where.place / value).stat().st_size, f"{example.id} does not write {value}"


def _check_number(effect: str, stated: Sequence[str], before: Seen, after: Seen) -> None:
    made = getattr(after, effect) - getattr(before, effect)
    compare = operator.ge if any(number.endswith("+") for number in stated) else operator.eq
    expected = sum(int(number.rstrip("+")) for number in stated)
    assert compare(made, expected), f"{effect}: {made} instead of {' + '.join(stated)}"


pytestmark = pytest.mark.usefixtures("no_settings")


def output_of(example: str, directory: Path, **env: str) -> str:
    done = ran("-W", "error", str(ROOT / "examples" / example), cwd=directory, **env)
    assert done.stderr == ""
    return done.stdout


def ask(directory: Path, *arguments: str) -> Any:
    return in_process("--store", str(directory / "callspan.db"), *arguments, "--json").json


def test_quickstart_records_its_call(tmp_path: Path) -> None:
    assert output_of("quickstart.py", tmp_path).startswith("Paris.\n")
    (call,) = ask(tmp_path, "calls")
    assert (call["output"], call["input_tokens"], call["output_tokens"]) == ("Paris.", 14, 2)


def test_the_agent_reaches_its_goal_step_by_step(tmp_path: Path) -> None:
    assert "Reached the goal, reward +0.90" in output_of("agent_gridworld.py", tmp_path)
    session = ask(tmp_path, "show", "last")
    assert (session["outcome"], session["reward"]) == ("success", 0.9)
    assert [step["tools"][0]["name"] for step in session["steps"]] == ["move", "move"]
    assert session["steps"][-1]["terminated"] is True


def test_a_conversation_of_three_requests_is_one_session(tmp_path: Path) -> None:
    assert "I am sorry. (parcel 4711 is refunded)" in output_of("support_desk.py", tmp_path)
    (session,) = ask(tmp_path, "sessions")
    assert (session["session_id"], session["timesteps"], session["calls"]) == ("conversation-1", 3, 3)


def test_the_jaeger_example_sends_the_trace_its_page_describes(receiver: OtlpReceiver, tmp_path: Path) -> None:
    out = output_of("jaeger/app.py", tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    assert f"Sent the trace to {receiver.url}" in out
    by_id = {span.span_id: span for span in receiver.spans}
    calls = [span for span in receiver.spans if span.name == "chat gpt-4.1-mini"]
    paths = {tuple(_ancestors(span, by_id)) for span in calls}
    assert paths == {(f"timestep {name}", "invoke_workflow questions", "handle request") for name in ("ask", "stream")}
    retried, streamed, refused = sorted(calls, key=lambda span: span.start_ns)
    facts = retried.attributes
    assert facts["http.request.resend_count"] == 1
    assert facts["llm.latency"]
    assert "llm.attempt" in [name for name, _ in retried.events]
    assert len(streamed.events) >= 1
    assert refused.attributes["http.response.status_code"] == 400
    assert refused.attributes["error.type"]
    for name in ("gen_ai.input.messages", "gen_ai.output.messages", "llm.completions", "session.id"):
        assert name in facts


def _ancestors(span: ReceivedSpan, by_id: dict[str, ReceivedSpan]) -> list[str]:
    above = by_id.get(span.parent_id or "")
    return [] if above is None else [above.name, *_ancestors(above, by_id)]
