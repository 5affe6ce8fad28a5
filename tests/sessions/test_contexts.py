"""Where a session is current: in tasks, threads, generators and processes, and if it is left elsewhere than entered."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import inspect
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any
from weakref import WeakSet

import msgspec
import openai
import pytest
from opentelemetry.context import get_current
from tests.conftest import Instrument, Read
from tests.sessions.conftest import Seen, parent_of
from tests.support.processes import ran
from tests.support.scale import scaled
from tests.support.waiting import HANG_MS, HANG_S, until_async

import callspan
from callspan import copy_context, current_session, current_timestep, metadata, session, timestep, tool
from callspan.records import CallRecord, SessionRecord, TimestepRecord
from callspan.testing import ScriptedProvider, capture


def test_concurrent_async_sessions_never_mix() -> None:
    count = scaled(50, 200)

    async def episode(number: int) -> None:
        async with session("s", session_id=f"mix-{number}") as own:
            for index in range(20):
                async with own.timestep() as step:
                    await asyncio.sleep(0)
                    assert current_session() is own
                    assert current_timestep() is step
                    step.action([number, index])
                    await asyncio.gather(lookup(own), lookup(own))

    async def lookup(own: object) -> None:
        await asyncio.sleep(0)
        assert current_session() is own
        with callspan.record_call(provider="mine"):
            pass

    async def everything() -> None:
        await asyncio.gather(*(episode(number) for number in range(count)))

    with capture() as seen:
        asyncio.run(everything())
    events: dict[str, list[Any]] = {}
    for event in seen.events:
        events.setdefault(str(event.session_id), []).append(event)
    for number in range(count):
        mine = events[f"mix-{number}"]
        assert [record.data for record in mine] == [[number, index] for index in range(20)]
        assert [record.sequence for record in mine] == list(range(20))
    assert {record.totals.calls for record in seen.sessions if record.totals} == {40}
    of_session = {record.span_id: record.session_id for record in seen.sessions}
    assert {record.session_id for record in seen.timesteps} == {*of_session.values()}
    assert all(of_session[record.parent_span_id] == record.session_id for record in seen.timesteps)


def test_copied_context_carries_the_session_to_threads() -> None:
    async def look() -> object:
        await asyncio.sleep(0)
        return current_session()

    def look_twice() -> Iterator[object]:
        yield current_session()
        yield current_session()

    def work(number: int) -> None:
        assert current_session() is own
        with timestep(f"t{number}"), callspan.record_call(provider="mine"):
            pass

    with capture() as seen, session("s") as own, metadata(run_id="r"), ThreadPoolExecutor(4) as pool:
        list(pool.map(copy_context(work), range(20)))
        carried, wrapped = copy_context(look), copy_context(returning(lambda _: look()))
        iterated = copy_context(look_twice)
        assert list(pool.map(lambda _: current_session(), range(4))) == [None] * 4
    assert asyncio.run(carried()) is asyncio.run(wrapped("any")) is own
    assert list(iterated()) == [own, own]
    assert current_session() is None
    ended = [record for record in seen.timesteps if record.end_ns is not None]
    assert sorted(record.index for record in ended) == list(range(20))
    assert {record.parent_span_id for record in ended} == {seen.sessions[0].span_id}
    assert {call.metadata["run_id"] for call in seen.records} == {"r"}
    assert seen.sessions[-1].totals.calls == 20


def test_decorated_generator_keeps_the_consumer_context(seen: Seen) -> None:
    @timestep("ask")
    def ask() -> Iterator[object]:
        with tool("inside") as inside:
            assert inside.step is current_timestep()
        got = yield current_timestep()
        try:
            yield got
        except KeyError:
            yield "caught"
        return "done"

    with session("s"):
        running = ask()
        step = next(running)
        assert current_timestep() is None
        assert seen.named("timestep ask") == []
        assert running.send("hello") == "hello"
        assert running.throw(KeyError()) == "caught"
        assert step.state != "ended"
        with pytest.raises(StopIteration) as stop:
            next(running)
        assert stop.value.value == "done"
        assert step.state == "ended"
    assert seen.ended(TimestepRecord)[0].outcome == "success"
    assert parent_of(seen.the("execute_tool inside")) == seen.the("timestep ask").context.span_id


@pytest.mark.parametrize("decorator", [session, timestep])
def test_session_in_a_generator_keeps_the_consumer_context(decorator: Any) -> None:
    @decorator
    def items() -> Iterator[object]:
        with session("inside"):
            yield current_session()

    @decorator
    async def later() -> AsyncIterator[object]:
        with session("inside"):
            try:
                yield current_session()
            except KeyError:
                yield "caught"

    async def consume() -> None:
        with session("s") as own:
            for inside in items():
                assert current_session() is own is not inside
            running: Any = later()
            await running.__anext__()
            assert current_session() is own
            assert await running.athrow(KeyError()) == "caught"
            assert current_session() is own
            await running.aclose()
        assert current_session() is None

    asyncio.run(consume())


def test_decorated_generator_ends_when_dropped_or_closed(seen: Seen) -> None:
    closed = []

    @timestep("count")
    def count() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(current_timestep() is not None)

    with session("s"):
        for _ in count():
            break
        gc.collect()
        running = count()
        next(running)
        running.close()
        count()
    assert closed == [True, True]
    assert len(seen.ended(TimestepRecord)) == 2
    assert {record.outcome for record in seen.ended(TimestepRecord)} == {"success"}


@pytest.mark.parametrize("left", ["dropped", "in a cycle", "open"])
def test_abandoned_async_generator_is_closed_once(seen: Seen, monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    closed, unraisable, kept = [], [], []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    @timestep("count")
    async def count(held: list[object]) -> AsyncIterator[int]:
        try:
            yield len(held)
        finally:
            await asyncio.sleep(0.001)
            closed.append(1)

    async def consume() -> None:
        held: list[object] = []
        running = count(held)
        await running.__anext__()
        {"in a cycle": held, "open": kept}.get(left, []).append(running)
        if left == "open":
            return
        del held, running
        gc.collect()  # both generators, in any order
        await until_async(lambda: closed)

    with session("s"):
        asyncio.run(consume())
    assert closed == [1]
    assert unraisable == []
    assert len(seen.ended(TimestepRecord)) == 1


def test_session_may_be_left_in_another_context(seen: Seen) -> None:
    """Where it is closed by another task, or its own is cancelled."""

    async def chat() -> AsyncIterator[object]:
        with metadata(run_id="ann's"), session("chat", user_id="ann") as own, own.timestep():
            yield asyncio.create_task(stays(own))
            await asyncio.sleep(HANG_S)
            yield "b"

    async def stays(own: object) -> None:
        await asyncio.sleep(0)
        with tool("of a task that started in it"):
            pass
        assert current_session() is own

    async def consume() -> None:
        running = chat()
        inside: Any = await running.__anext__()
        await asyncio.create_task(running.aclose())
        with metadata(step="bob's"), callspan.record_call(provider="mine"):
            await inside
        assert current_session() is current_timestep() is None
        task = asyncio.create_task(collect())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def collect() -> list[object]:
        return [one async for one in chat()]

    asyncio.run(consume())
    call = seen.of(CallRecord)[-1]
    assert (call.place.session_id, call.metadata) == (None, {"step": "bob's"})
    assert [one.outcome for one in seen.ended(SessionRecord)] == ["cancelled"] * 2
    assert [one.outcome for one in seen.ended(TimestepRecord)] == ["cancelled"] * 2


def test_block_left_elsewhere_keeps_that_context(seen: Seen) -> None:
    blocks: list[Any] = [metadata(run_id="left"), callspan.content("metadata"), session(require=True)]
    for left in blocks:
        contextvars.copy_context().run(left.__enter__)
    with metadata(run_id="here"), callspan.content("metadata"), session(require=True):
        for left in blocks:
            left.__exit__(None, None, None)
        with callspan.record_call(provider="mine"), session("s"):
            pass
    assert seen.ended(SessionRecord)[0].metadata["run_id"] == "here"
    assert (seen.ended(SessionRecord)[0].content_level, seen.of(CallRecord)) == ("metadata", [])


@pytest.mark.parametrize(
    "make", [lambda: metadata(a=1), lambda: callspan.content("off"), lambda: session(require=True)]
)
def test_left_block_is_freed_without_garbage_collection(make: Any) -> None:
    while gc.collect():  # finalizers of earlier tests leave more
        pass
    gc.disable()
    try:
        for _ in range(10):
            with make():
                pass
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_concurrent_lookups_tolerate_a_block_left_elsewhere() -> None:
    left, over = metadata(run_id="left"), threading.Event()

    def look() -> None:
        while not over.is_set():
            copied.copy().run(metadata().__enter__)

    left.__enter__()
    contextvars.copy_context().run(left.__exit__, None, None, None)
    copied = contextvars.copy_context()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        for _ in range(5000):
            with metadata():
                pass
        over.set()
    sys.setswitchinterval(interval)
    left.__exit__(None, None, None)
    looking.result()


async def work(word: str) -> str:
    await asyncio.sleep(0)
    with tool("inside"):
        return {"good": "done"}[word]


async def working(word: str) -> AsyncIterator[str]:
    yield await work(word)


def counting(word: str) -> Iterator[str]:
    with tool("inside"):
        yield {"good": "done"}[word]


class Worker:
    async def __call__(self, word: str) -> str:
        return await work(word)


async def taken(result: Any) -> Any:
    if inspect.iscoroutine(result):
        return await result
    items = [item async for item in result] if inspect.isasyncgen(result) else list(result)
    return items[0]


def returning(make: Any) -> Any:
    def wrapper(word: str) -> Any:
        return make(word)

    return wrapper


RETURNED = [
    (returning(work), CoroutineType), (Worker(), CoroutineType), (partial(work), CoroutineType),
    (returning(working), AsyncGeneratorType), (returning(counting), GeneratorType),
]  # fmt: skip


@pytest.mark.parametrize("decorator", [session, timestep, tool])
@pytest.mark.parametrize(("function", "kind"), RETURNED)
def test_block_lasts_as_long_as_a_returned_iterator(decorator: Any, function: Any, kind: type, seen: Seen) -> None:
    decorated = decorator(function)

    async def use() -> list[object]:
        with session("s"):
            with metadata(run_id="made"):
                outside = get_current()
                first, second, bad = decorated("good"), decorated("good"), decorated("bad")
                assert get_current() == outside
                assert {type(first), type(second), type(bad)} == {kind}
            with metadata(run_id="taken"):
                outside = get_current()
                results = [await taken(first)]
                assert get_current() == outside
                results += await asyncio.gather(
                    second if kind is CoroutineType else taken(second), asyncio.create_task(taken(bad)),
                    return_exceptions=True,
                )  # fmt: skip
            return results

    *good, error = asyncio.run(use())
    assert (good, type(error)) == (["done", "done"], KeyError)
    ends = {span.context.span_id: span for span in seen.spans if span.context is not None}
    blocks = [ends[parent_of(span)] for span in seen.named("execute_tool inside")]
    assert len({id(block) for block in blocks}) == 3
    assert [block.status.is_ok for block in blocks].count(False) == 1
    assert all(a.end_time >= b.end_time for a, b in zip(blocks, seen.named("execute_tool inside"), strict=True))


@pytest.mark.parametrize("make", [session, tool])
def test_slow_starting_block_outlasts_inner_blocks(make: Any, seen: Seen) -> None:
    def wait(_frame: object, event: str, _arg: object) -> None:
        if event == "call":
            time.sleep(0.001)

    outer = make("outer")
    sys.setprofile(wait)
    try:
        outer.start()
    finally:
        sys.setprofile(None)
    with tool("inside"):
        pass
    outer.end()
    inside, ended = seen.spans
    assert inside.start_time >= ended.start_time
    assert inside.end_time <= ended.end_time


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("decorator", [session, timestep, tool])
@pytest.mark.parametrize("function", [function for function, _ in RETURNED if not isinstance(function, partial)])
def test_unstarted_iterator_ends_its_block_when_collected(decorator: Any, function: Any, seen: Seen) -> None:
    """A partial of a coroutine function is one itself: its block has not begun then."""
    with session("s", session_id="outer"):
        before = len(seen.spans)
        decorator(function)("good")
        gc.collect()
        assert len(seen.spans) == before + 1
        assert seen.spans[-1].status.is_ok


@pytest.mark.parametrize("decorator", [session, timestep, tool])
def test_unfinished_iterator_ends_its_block(decorator: Any, seen: Seen) -> None:
    def words() -> Iterator[str]:
        try:
            yield from ("one", "two")
        finally:
            with tool("inside"):
                time.sleep(0.01)

    with session("s"):
        for _ in decorator(returning(lambda _: words()))("good"):
            break
        gc.collect()
    (inside,) = seen.named("execute_tool inside")
    (block,) = (span for span in seen.spans if span.context.span_id == parent_of(inside))
    assert block.end_time >= inside.end_time


def test_repeatedly_returned_generator_runs_until_closed() -> None:
    numbers = (number for number in range(9))
    following = tool(lambda: numbers)
    assert [next(following()) for _ in range(3)] == [0, 1, 2]
    gc.collect()
    with closing(following()) as some:
        assert next(some) == 3
    assert list(numbers) == []


def test_decorated_function_belongs_to_its_session(seen: Seen) -> None:
    own = session("own").start(current=False)
    turn = own.timestep("turn", turn=4)(current_timestep)
    with session("other"):
        turn()
    turn()
    own.end()
    assert [(one.session_id, one.turn) for one in seen.ended(TimestepRecord)] == [(own.id, 4)] * 2


def test_copied_object_shares_its_session() -> None:
    """As a tree search copies an agent."""
    with capture(), session("s") as own, own.timestep() as step, tool("t") as run:
        assert copy.deepcopy([own, step, run]) == [own, step, run]


def test_exit_without_enter_ends_a_started_session(seen: Seen) -> None:
    """As an ExitStack does to which it was pushed."""
    own = session("own").start(current=False)
    own.__exit__(None, None, None)
    assert [one.name for one in seen.ended(SessionRecord)] == ["own"]


VICTIM = """
import os, signal, sys
import callspan
callspan.instrument(stores=sys.argv[1])
with callspan.session("doomed", session_id="doomed", metadata={"seed": 7}) as own:
    for index in range(3):
        with own.timestep() as step:
            with callspan.record_call(provider="mine"):
                pass
            step.action(index)
            step.update(metadata={"at": index})
            if index == 2:
                with step.tool("dig", arguments={"depth": 9}):
                    os.kill(os.getpid(), signal.SIGKILL)
            step.environment(index, reward=1.0)
"""


def test_killed_process_leaves_an_interrupted_session(tmp_path: Path, store: str, reading: Read) -> None:
    ran("-c", VICTIM, store, cwd=tmp_path, code=-signal.SIGKILL)
    reader = reading(store)
    summary, steps = reader.session("doomed"), list(reader.timesteps("doomed"))
    assert (summary.session.outcome, summary.session.end_ns) == ("interrupted", None)
    assert summary.session.metadata == {"seed": 7}
    assert (summary.timesteps, summary.calls, summary.reward) == (3, 3, 2.0)
    *_, action, dig = map(msgspec.structs.asdict, reader.events("doomed"))
    assert [(step.index, step.outcome) for step in steps] == [(0, "success"), (1, "success"), (2, None)]
    assert [step.metadata for step in steps] == [{"at": 0}, {"at": 1}, {"at": 2}]
    assert (action["event_type"], action["data"]) == ("action", 2)
    assert (dig["event_type"], dig["name"], dig["data"]) == ("tool_start", "dig", {"arguments": {"depth": 9}})


TURNS = """
import os, signal, sys
import callspan
handle = callspan.instrument(stores=sys.argv[1])
for turn in sys.argv[2:]:
    with callspan.session("chat", session_id="chat"):
        with callspan.record_call(provider="mine"):
            pass
        handle.force_flush()
        if turn == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
handle.uninstrument()
"""


@pytest.mark.parametrize("apart", [False, True])
def test_killed_turn_of_a_session_is_interrupted_until_a_later_one_ends(
    tmp_path: Path, store: str, reading: Read, apart: bool
) -> None:
    """An earlier end is not that of the session, whether the same process begins it again or another one."""
    processes: list[list[str]] = [["ended"], ["killed"]] if apart else [["ended", "killed"]]
    for turns, outcome in (*((turns, turns[-1]) for turns in processes), (["ended"], "ended")):
        ran("-c", TURNS, store, *turns, cwd=tmp_path, code=-signal.SIGKILL if outcome == "killed" else 0)
        session = reading(store).session("chat").session
        expected = ("interrupted", False) if outcome == "killed" else ("success", True)
        assert (session.outcome, session.end_ns is not None) == expected
    assert reading(store).session("chat").calls == 3


OVERLAPS = {
    "nested": """
with callspan.session("chat", session_id="chat") as outer:
    with callspan.session("chat", session_id="chat") as inner:
        inner.outcome(success=INNER, reward=2)
""",
    "raises": """
with callspan.session("chat", session_id="chat") as outer:
    try:
        with callspan.session("chat", session_id="chat") as inner:
            inner.outcome(success=INNER, reward=2)
            raise ValueError("goes on")
    except ValueError:
        pass
""",
    "first ends first": """
inner = callspan.session("chat", session_id="chat").start(current=False)
outer = callspan.session("chat", session_id="chat").start(current=False)
inner.outcome(success=INNER, reward=2)
inner.end()
""",
    "threads": """
def turn():
    with callspan.session("chat", session_id="chat") as inner:
        inner.outcome(success=INNER, reward=2)

outer = callspan.session("chat", session_id="chat").start()
thread = threading.Thread(target=turn)
thread.start()
thread.join()
""",
    "tasks": """
async def turn(waits, tells):
    with callspan.session("chat", session_id="chat") as inner:
        inner.outcome(success=INNER, reward=2)
        await waits.wait()
    tells.set()

async def main():
    first, second, third = (asyncio.Event() for _ in range(3))
    first.set()
    await asyncio.gather(turn(second, third), turn(first, second))

outer = callspan.session("chat", session_id="chat").start()
asyncio.run(main())
""",
    "fork": """
outer = callspan.session("chat", session_id="chat").start()
if (child := os.fork()) == 0:
    with callspan.session("chat", session_id="chat") as inner:
        inner.outcome(success=INNER, reward=2)
    callspan.uninstrument()
    os._exit(0)
os.waitpid(child, 0)
""",
    "carried on here": """
inner = callspan.session("chat", session_id="chat").start()
inner.outcome(success=INNER, reward=2)
carried = callspan.session(carrier=inner.carrier()).start(current=False)
outer = callspan.session("chat", session_id="chat").start(current=False)
inner.end()
""",
    "left in a fork": """
outer = callspan.session("chat", session_id="chat").start()
if (child := os.fork()) == 0:
    outer.outcome(success=INNER, reward=2)
    outer.end()
    callspan.uninstrument()
    os._exit(0)
os.waitpid(child, 0)
""",
}
"""The session `chat` is open twice: an `inner` one ends with facts, while an `outer` one is open."""
OVERLAPPING = """
import asyncio, os, signal, sys, threading
import callspan
handle = callspan.instrument(stores=sys.argv[1])
{overlap}
with callspan.record_call(provider="mine"):
    pass
handle.force_flush()
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
outer.end()
handle.uninstrument()
"""
NESTED_END = """
    handle.force_flush()
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("is_success", [True, False, None])
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_session_ends_with_its_last_end(
    tmp_path: Path, store: str, reading: Read, overlap: str, is_success: bool | None
) -> None:
    """An earlier one of the same id leaves it open, and what was said of it stays."""
    lines = OVERLAPS[overlap].replace("INNER", repr(is_success))
    # A block that is still open ends with the process, or by its own end.
    program = OVERLAPPING.format(overlap=lines + (NESTED_END if "as outer" in lines else ""))
    expected = {True: "success", False: "failure", None: "success"}
    for end in ("killed", "ended"):
        ran("-c", program, store, end, cwd=tmp_path, code=-signal.SIGKILL if end == "killed" else 0)
        with closing(reading(store)) as reader:
            (summary,) = reader.sessions()
        session = summary.session
        assert (session.success, summary.reward) == (is_success, 2.0)
        outcome = "interrupted" if end == "killed" else expected[is_success]
        assert (session.outcome, session.end_ns is not None, session.error) == (outcome, end != "killed", None)


WORKER = """
import json, sys
import callspan
handle = callspan.instrument(stores=sys.argv[1])
with callspan.session(carrier=json.loads(sys.argv[2])) as own:
    for index in range(10):
        with own.timestep() as step:
            with callspan.record_call(provider="mine"):
                pass
            step.environment(index, reward=0.5)
    own.update(metadata={sys.argv[3]: True})
handle.uninstrument()
"""


def test_two_processes_add_steps(tmp_path: Path, store: str, instrumented: Instrument, reading: Read) -> None:
    handle = instrumented(stores=store)
    with session("shared", metadata={"seed": 7}) as own, ThreadPoolExecutor(2) as pool:
        with own.timestep():
            pass
        worker = partial(ran, "-c", WORKER, store, json.dumps(own.carrier()), cwd=tmp_path)
        assert [done.stderr for done in pool.map(worker, ("left", "right"))] == ["", ""]
        own.outcome(success=True)
    handle.force_flush(HANG_MS)
    reader = reading(store)
    summary, steps, calls = reader.session(own.id), list(reader.timesteps(own.id)), list(reader.calls())
    assert (summary.timesteps, summary.calls, summary.events, summary.reward) == (21, 20, 20, 10.0)
    assert summary.session.metadata == {"seed": 7, "left": True, "right": True}
    assert (summary.session.name, summary.session.outcome, summary.session.success) == ("shared", "success", True)
    assert summary.session.pid == os.getpid()
    assert sorted(step.index for step in steps) == sorted([0, *range(10), *range(10)])
    assert len({step.trace_id for step in steps}) == 1
    assert {call.place.timestep_id for call in calls} < {step.timestep_id for step in steps}
    assert len({call.pid for call in calls}) == 2


def test_alternating_sessions_release_ended_steps() -> None:
    """As two environments do that one loop plays: each starts its next step while the other's is current."""
    known: WeakSet[callspan.Timestep] = WeakSet()
    with capture():
        sessions = [session(name).start() for name in "ab"]
        current = [one.timestep().start() for one in sessions]
        for _ in range(20):
            for at, one in enumerate(sessions):
                current[at].end()
                current[at] = one.timestep().start()
                known.add(current[at])
        gc.collect()
        assert len(known) <= 4
        for one in sessions:
            one.end()
        assert current_session() is None


@pytest.fixture
def hints(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often a session without a call was said to have loose ones beside it, in a process that has not said so."""
    misuse = sys.modules["callspan.agent.misuse"]
    monkeypatch.setattr(misuse, "_warned", type(misuse._warned)())  # type: ignore[attr-defined]
    return lambda: caplog.text.count("a session ended without a call while calls were made outside")


def test_session_that_fetches_an_earlier_answer_has_no_loose_call(
    provider: ScriptedProvider, instrumented: Instrument, hints: Callable[[], int]
) -> None:
    instrumented()
    provider.reply(text="Done.", polls=1)
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        later = client.responses.create(model="gpt-5", input="Hi", background=True)
        with session("polling"):
            while client.responses.retrieve(later.id).status != "completed":
                pass
    assert hints() == 0


@pytest.mark.parametrize("bound", [True, False])
def test_session_whose_pool_calls_outside_of_it_says_so_once(
    provider: ScriptedProvider, instrumented: Instrument, hints: Callable[[], int], bound: bool
) -> None:
    instrumented()
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:

        def ask(_: int) -> None:
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])

        for _ in range(2):
            with session("pooled"), ThreadPoolExecutor(2) as pool:
                list(pool.map(copy_context(ask) if bound else ask, range(2)))
            with session("without any call"):
                pass
    assert hints() == (0 if bound else 1)
