"""Jobs that a provider works on after the request: one call for each, however often they are fetched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

import callspan
from callspan.testing import Captured, capture
from tests.intercept import sdks
from tests.intercept.mode import Mode

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
pytestmark = [
    pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning"),
    pytest.mark.skipif(sdks.OPENAI < (3, 0), reason="the test needs the videos and evaluations of openai 3"),
    pytest.mark.skipif(sdks.ANTHROPIC < (2, 0), reason="the test needs the dreams of anthropic 2"),
]
EVAL: Any = {"type": "jsonl", "source": {"type": "file_id", "id": "file_1"}}
DREAM: Any = {"inputs": [{"type": "sessions", "session_ids": ["s1"]}], "model": "claude-sonnet-4-5"}


@pytest.fixture(params=["evals", "videos", "dreams"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def of(mode: Mode, kind: str) -> tuple[Any, Callable[[], Any], Callable[[str], Any], Callable[[], Any]]:
    """How such a job is created, fetched and listed."""
    openai, anthropic = mode.openai(), mode.anthropic()
    if kind == "evals":
        runs = openai.evals.runs
        return (
            runs, lambda: runs.create("eval_1", data_source=EVAL),
            lambda job: runs.retrieve(job, eval_id="eval_1"), lambda: runs.list("eval_1"),
        )  # fmt: skip
    if kind == "videos":
        videos = openai.videos
        return (
            videos,
            lambda: videos.create(prompt="A cat.", model="sora-2", seconds="4"),
            videos.retrieve,
            videos.list,
        )
    dreams = anthropic.beta.dreams
    return dreams, lambda: dreams.create(**DREAM), dreams.retrieve, dreams.list


WANTED: dict[str, tuple[str, str, str]] = {
    "evals": ("eval_runs", "evaluation", "gpt-4o-mini"),
    "videos": ("videos", "generate_content", "sora-2"),
    "dreams": ("dreams", "invoke_agent", "claude-sonnet-4-5"),
}


async def ended(mode: Mode, kind: str, polls: int = 4) -> None:
    """Create a job, fetch it until it has ended, and more often, and list it."""
    _, create, fetch, listed = of(mode, kind)
    job = await mode.wait(create())
    for _ in range(polls):
        await mode.wait(fetch(job.id))
    page = await mode.wait(listed())
    assert page is not None


def script(mode: Mode, kind: str) -> None:
    mode.provider.reply(input_tokens=100, output_tokens=20, polls=1, model="gpt-4o-mini" if kind == "evals" else None)


def test_a_job_is_one_call(kind: str, mode: Mode, run: Run, seen: Captured) -> None:
    """With model, status and the usage that it states at its end; with one span."""
    script(mode, kind)
    run(lambda: ended(mode, kind))
    (record,) = seen.records
    assert (record.api, record.operation, record.request.model) == WANTED[kind]
    assert record.outcome == "success"
    assert record.response is not None
    assert record.response.status == "completed"
    if kind == "videos":
        assert record.usage is None
        assert record.request.params == {"seconds": "4"}
    else:
        assert record.usage is not None
        assert (record.usage.input_tokens, record.usage.output_tokens) == (100, 20)
    (span,) = seen.spans
    assert (span.attributes or {})["callspan.call_id"] == record.call_id


def test_a_job_belongs_to_the_session_and_step_it_runs_in(kind: str, mode: Mode, run: Run, seen: Captured) -> None:
    """Also in time, which providers state in whole seconds: its span is within that of the step, and has a length."""
    script(mode, kind)

    async def body() -> None:
        with callspan.session("studio", session_id="s-1") as session, session.timestep(), session.timestep():
            await ended(mode, kind)

    run(body)
    (record,) = seen.records
    (span,) = [one for one in seen.spans if one.kind is SpanKind.CLIENT]
    assert (record.place.session_id, record.place.timestep) == ("s-1", 1)
    shown = dict(span.attributes or {})
    names = ("session.id", "gen_ai.conversation.id", "callspan.step.index")
    assert tuple(shown[name] for name in names) == ("s-1", "s-1", 1)
    assert span.parent is not None
    (step,) = [one for one in seen.spans if one.get_span_context().span_id == span.parent.span_id]
    assert span.start_time is not None
    assert step.start_time is not None
    assert span.end_time is not None
    assert step.start_time <= span.start_time <= span.end_time - 1_000
    if kind != "dreams":
        assert record.timing.start_ns % 1_000_000_000 == 0, "as the provider states it"


def test_a_job_belongs_to_where_it_was_created_wherever_it_is_fetched(
    kind: str, mode: Mode, run: Run, seen: Captured
) -> None:
    """Also where it was created outside of a session, or with a stricter content level."""
    script(mode, kind)
    mode.provider.reply(polls=0, model="gpt-4o-mini" if kind == "evals" else None)

    async def body() -> None:
        _, create, fetch, _ = of(mode, kind)
        with callspan.session("studio", session_id="s-1") as session, session.timestep(), callspan.content("off"):
            inside = await mode.wait(create())
        outside = await mode.wait(create())
        with callspan.session("other", session_id="s-2"):
            for job in (inside, inside, outside):
                await mode.wait(fetch(job.id))

    run(body)
    assert [(one.place.session_id, one.place.timestep, one.content_level) for one in seen.records] == [
        ("s-1", 0, "off"), (None, None, "full"),
    ]  # fmt: skip
    shown = [dict(one.attributes or {}) for one in seen.spans if one.kind is SpanKind.CLIENT]
    assert [one.get("session.id") for one in shown] == ["s-1", None]


def test_a_job_that_is_not_fetched_is_in_progress(kind: str, mode: Mode, run: Run, seen: Captured) -> None:
    """Without tokens and without a span; which models an evaluation uses is not known yet."""
    script(mode, kind)

    async def body() -> None:
        _, create, _, _ = of(mode, kind)
        await mode.wait(create())

    run(body)
    assert [(record.outcome, record.usage) for record in seen.records] == (
        [] if kind == "evals" else [("in_progress", None)]
    )
    assert not seen.spans


def test_another_process_writes_the_same_call(kind: str, mode: Mode, run: Run) -> None:
    script(mode, kind)
    ids: list[set[str]] = []

    async def body() -> None:
        _, create, fetch, _ = of(mode, kind)
        job = await mode.wait(create())
        for _ in range(2):
            with capture() as seen:
                for _ in range(3):
                    await mode.wait(fetch(job.id))
            ids.append({record.call_id for record in seen.records if record.outcome == "success"})

    run(body)
    assert len(ids[0]) == 1
    assert ids[0] == ids[1]


def test_errors_are_the_callers_and_no_calls(kind: str, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(status=404, message="No")

    async def body() -> None:
        _, create, _, _ = of(mode, kind)
        with pytest.raises(Exception, match="No"):
            await mode.wait(create())

    run(body)
    assert not seen.records


@pytest.mark.parametrize("at", [10**30, -1, 1.5, "soon", True, None])
def test_a_time_that_is_none_costs_no_record(at: object, mode: Mode, run: Run, seen: Captured) -> None:
    about = {"id": "video_1", "object": "video", "status": "completed", "model": "sora-2", "seconds": "4"}
    mode.provider.reply(raw={**about, "created_at": at, "completed_at": at})
    run(lambda: mode.wait(mode.openai().post("/videos", body={}, cast_to=object)))
    (record,) = seen.records
    assert (record.outcome, record.request.model) == ("success", "sora-2")
    assert record.timing.start_ns < 2**63
    assert len(seen.spans) == 1
