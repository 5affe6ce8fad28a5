"""Each part of callspan raises during a call, or a private name of others is gone: calls are as without it.

The doubles are small real objects put where the part belongs; nothing of ours is patched over.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import importlib
import inspect
import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from contextvars import copy_context
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace
from typing import Any, Final, NoReturn

import aiohttp
import msgspec
import pytest
import requests
from msgspec.structs import replace
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from tests.conftest import Instrument
from tests.support.calls import Wire, everywhere, text_of
from tests.support.mode import Mode
from tests.support.scale import scaled
from tests.support.uses import GENERATED, HOOKED, HTTP, Clients, Use, plain
from tests.support.waiting import HANG_MS, HANG_S

import callspan
from callspan import private_names
from callspan.intercept import patching
from callspan.intercept.patching import HOOKS, Hook
from callspan.observe.deferred_ends import DeferredEnds
from callspan.private_names import READ, PrivateName
from callspan.providers import registry
from callspan.records import CallRecord, Record
from callspan.runtime import fail_open
from callspan.runtime.lock_free import Once
from callspan.semconv.call import Projection
from callspan.testing import ScriptedProvider, capture
from callspan.wiring import WIRING


@pytest.fixture(autouse=True)
def _well(provider: ScriptedProvider) -> Iterator[None]:
    provider.reply(text="I am well.", repeat=True)
    fail_open.forget_failures()
    yield
    fail_open.forget_failures()


async def texts(mode: Mode) -> list[str]:
    """Of a plain and a streamed call."""
    wire = Wire("chat_completions", mode)
    plain = await wire.ask()
    await wire.read()
    return [plain.choices[0].message.content or "", wire.received_text()]


WELL = ["I am well.", "I am well."]


def boom(*args: object, **kwargs: object) -> NoReturn:
    raise RuntimeError("a bug of ours")


class Broken:
    """Raises whatever it is asked to do."""

    def __getattr__(self, name: str) -> object:
        return boom


class BrokenEndpoint:
    """An adapter in which one step fails; its accumulator may fold nothing."""

    def __init__(self, broken: str) -> None:
        self._whole: Any = registry.by_api("chat_completions")
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        if self._broken == "each chunk" and name == "accumulator":
            return SimpleNamespace(complete=False, add=boom, body=boom)
        return boom if name == self._broken else getattr(self._whole, name)


Break = Callable[[pytest.MonkeyPatch], None]


def in_endpoint(step: str) -> Break:
    return lambda patch: patch.setattr(registry, "endpoint_for", lambda method, path: BrokenEndpoint(step))


def in_factory(part: str) -> Break:
    broken = boom if part in ("ambient", "keep", "estimates") else Broken()

    def put(patch: pytest.MonkeyPatch) -> None:
        factories = WIRING.hook_context.factories.items()
        replaced = {level: msgspec.structs.replace(factory, **{part: broken}) for level, factory in factories}
        WIRING.hook_context.factories = replaced

    return put


STEPS = ("request", "accumulator", "response_info", "conversation", "each chunk")
PARTS = (
    "spans",
    "processors",
    "recorder",
    "metrics",
    "workers",
    "ends",
    "recorded_calls",
    "ambient",
    "keep",
    "estimates",
)
BREAKS: dict[str, Break] = {
    **{f"the endpoint's {step}": in_endpoint(step) for step in STEPS},
    "the table of endpoints": lambda patch: patch.setattr(registry, "endpoint_for", boom),
    "the vocabulary at the start": lambda patch: patch.setattr(Projection, "start", boom),
    "the vocabulary at the end": lambda patch: patch.setattr(Projection, "end", boom),
    **{f"the factory's {part}": in_factory(part) for part in PARTS},  # some must not raise; if one does, no call fails
}
SPANS_AND_RECORDS = {"the vocabulary at the end", *(f"the endpoint's {step}" for step in STEPS)}
"""Where both calls are there by identity, each with its span."""


@pytest.mark.parametrize("part", BREAKS)
async def test_failing_part_never_breaks_a_call(part: str, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    with capture(estimate_usage=True) as seen, callspan.metadata(purpose="test"):
        BREAKS[part](monkeypatch)
        assert await texts(mode) == WELL
        if part == "the table of endpoints":
            # The hook of the HTTP library may record what that of the SDK could not.
            assert len(seen.records) in (0, 2)
        elif part.startswith("the vocabulary"):
            assert len(seen.records) == 2
        if part in SPANS_AND_RECORDS:
            calls = [record for record in seen.everything if isinstance(record, callspan.CallRecord)]
            ended = [record for record in calls if record.outcome != "in_progress"]
            assert [record.outcome for record in ended] == ["success", "success"]
            assert {record.span_id for record in ended} == {f"{span.context.span_id:016x}" for span in seen.spans}
    assert fail_open.failures() or not part.startswith("the endpoint")


async def test_failing_redactor_removes_all_content(mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    """One warning; neither its words nor those of the application's exception, which may quote a key, are logged."""
    words = f"a bug of the {mode.name} user's"

    def redact(record: Record) -> Record:
        raise RuntimeError(words)

    with capture(redact=redact) as seen, caplog.at_level(logging.DEBUG, logger="callspan"):
        try:
            int("sk-the-applications-key")
        except ValueError:
            assert await texts(mode) == WELL
        assert len(seen.records) == 2
        assert not [said for said in ("well", "How are") if said in everywhere(seen)]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "Could not redact a record with the application's redactor (RuntimeError); the call is not affected"
    ]
    assert caplog.text.count("RuntimeError") > 2
    assert not any(secret in caplog.text for secret in (words, "the-applications-key"))


async def test_failing_log_filter_never_breaks_a_call(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("callspan"), "filters", [boom])
    with capture(redact=boom) as seen:
        assert await texts(mode) == WELL
        assert len(seen.records) == 2


def with_processor(processor: Any) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


def giving(tracer: Any) -> Any:
    """A provider of somebody else's."""
    return SimpleNamespace(get_tracer=lambda *_, **__: tracer)


MAKES: dict[str, Callable[[], Any]] = {
    "processor": lambda: with_processor(Broken()),
    "exporter": lambda: with_processor(SimpleSpanProcessor(Broken())),
    "sampler": lambda: TracerProvider(sampler=Broken()),
    "tracer": lambda: giving(Broken()),
    "no span": lambda: giving(SimpleNamespace(start_span=lambda *_, **__: None)),
}


@pytest.mark.parametrize("make", MAKES)
async def test_failing_opentelemetry_never_breaks_a_call(
    make: str, mode: Mode, instrumented: Instrument, tmp_path: Path
) -> None:
    handle = instrumented(tracer_provider=MAKES[make](), stores=f"jsonl:///{tmp_path}/calls.jsonl")
    assert await texts(mode) == WELL
    handle.force_flush(HANG_MS)
    lines = (tmp_path / "calls.jsonl").read_text().splitlines()
    assert sum('"I am well."' in line for line in lines) == 2


async def test_failing_attach_keeps_the_record(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    with capture() as seen:
        with monkeypatch.context() as patched:
            patched.setattr(otel_context, "attach", boom)
            assert await texts(mode) == WELL
        assert await texts(mode) == WELL
    assert ([record.outcome for record in seen.records], len(seen.spans)) == (["success"] * 4, 4)
    assert trace.get_current_span() is trace.INVALID_SPAN


# Private names of others: each is there in the installed versions; without one, calls are recorded all the same.

WEBSOCKETS = {"websockets.asyncio.client", "websockets.sync.client"}
for module in {where.partition(":")[0] for row in READ for where in row.where} | WEBSOCKETS | {"botocore.client"}:
    with suppress(ImportError):  # older SDKs come without some
        importlib.import_module(module)
VARIABLES = {value: name for name, value in vars(private_names).items() if isinstance(value, PrivateName)}
SAMPLE = (private_names.BASE_URL, private_names.EVENT, private_names.INNER_STREAM, private_names.BODY_STREAM)


def test_private_names_exist_in_installed_versions() -> None:
    assert [f"{where}.{name.name}" for where, name in private_names.missing() if name in READ] == []


def work(provider: ScriptedProvider) -> list[object]:
    """Five calls, and what their caller has of them."""

    async def called() -> list[object]:
        chat, claude = Wire("chat_completions", Mode("async", provider)), Wire("messages", Mode("sync", provider))
        received: list[object] = [(await chat.ask()).choices[0].message.content]
        received.append([type(chunk).__name__ for chunk in await chat.read()])
        left = await chat.stream()
        received.append(type(await chat.next(left)).__name__)
        await chat.mode.wait(left.close())
        received.append([block.type for block in (await claude.ask()).content])
        received.append([item.type for item in await claude.read()])
        await chat.mode.close()
        await claude.mode.close()
        return received

    with callspan.session("s") as session, callspan.timestep():
        session.event("note", {"a": 1})
        return asyncio.run(called())


@pytest.mark.parametrize("row", scaled([*SAMPLE], [*READ]), ids=lambda row: row.name)
def test_missing_private_name_leaves_calls_unchanged(
    row: PrivateName, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bare = work(provider)
    other = row._replace(name="_moved_since")
    monkeypatch.setattr(private_names, VARIABLES[row], other)
    monkeypatch.setattr(private_names, "READ", tuple(other if each is row else each for each in READ))
    monkeypatch.setattr(private_names, "_warned", Once())
    with caplog.at_level(logging.WARNING), capture() as seen:
        assert work(provider) == bare
        assert len(seen.records) == 5
    lines = [message for message in caplog.messages if f"._moved_since (lost: {row.lost or 'nothing'}" in message]
    there = {where.partition(".")[0].partition(":")[0] for where in row.where if private_names._lacks(where, other)}
    there -= {"claude_agent_sdk"}  # which only a receiver observes
    assert row.where[0].startswith("types:") or len(lines) == len(there)
    assert [message for message in caplog.messages if message.startswith("Could not")] == []


CALLERS: Final = ("openai", "anthropic", "httpx")


def is_of_callers(hook: Hook) -> bool:
    return any(target.startswith(CALLERS) for target in hook.targets)


USED = tuple(
    hook for hook in HOOKS
    if not hook.late and is_of_callers(hook)
)  # fmt: skip
"""The hooks of the SDKs by which `work` calls."""
MOVED = sorted({(hook.attribute, "missing") for hook in USED})
CHANGED = sorted({(hook.attribute, "changed") for hook in USED if hook.reads})


@pytest.mark.parametrize(("name", "state"), MOVED + CHANGED)
def test_missing_hooked_name_leaves_calls_unchanged(
    name: str, state: str, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A release has moved a function, or a parameter that is read of it."""

    def moved(hook: Hook) -> Hook:
        if hook.attribute != name or not is_of_callers(hook):
            return hook
        if state == "changed":
            return replace(hook, reads={**hook.reads, "gone": 9})
        return replace(hook, targets=tuple(f"{target}_gone" for target in hook.targets))

    bare = work(provider)
    monkeypatch.setattr(patching, "HOOKS", tuple(map(moved, HOOKS)))
    with caplog.at_level(logging.WARNING), capture() as seen:
        assert work(provider) == bare
        gc.collect()
        hooks = [one for one in callspan.patch_status() if one.name.startswith(CALLERS)]
        assert {one.state for one in hooks if one.name.endswith(f".{name}")} == {state}
        records = seen.records
    whole = state == "changed" or name != "request"
    assert len(records) == (5 if whole else 0)
    if name != "_process_response_data":
        assert [text_of(record) for record in records].count("I am well.") == (4 if whole else 0)
    said = "lacks names callspan hooks" if state == "missing" else "has changed functions callspan hooks"
    warned = [message for message in caplog.messages if said in message]
    assert len({message.partition(said)[0] for message in warned}) == len(warned) > 0, "once for each SDK"
    assert [message for message in caplog.messages if message.startswith("Could not")] == []


LIBRARIES: Final = ("requests", "urllib3", "aiohttp")
"""What sends the requests of `work_by_libraries`."""
ASKED: Final = {"model": "m-1", "messages": [{"role": "user", "content": "Hi"}]}


def script(provider: ScriptedProvider) -> None:
    for _ in range(3):
        provider.reply(text="I am well.")
    provider.reply(status=400)


def work_by_libraries(provider: ScriptedProvider) -> list[object]:
    """Calls by requests and by aiohttp, read whole, as a stream and in part, and one that fails."""
    url, received = f"{provider.url}/v1/chat/completions", list[object]()
    asked: dict[str, Any] = {"json": ASKED}
    streamed: dict[str, Any] = {"json": {**ASKED, "stream": True}}

    async def by_aiohttp() -> None:
        async with aiohttp.ClientSession() as session:
            async with session.post(url, **asked) as answer:
                received.append((await answer.json())["choices"][0]["message"]["content"])
            async with session.post(url, **streamed) as answer:
                received.append([line async for line in answer.content][-2])
            async with session.post(url, **streamed) as answer:
                received.append(len(await answer.content.read(9)))
            async with session.post(f"{url}?key=none", **asked, raise_for_status=False) as answer:
                received.append((answer.status, len(await answer.read()) > 0))

    script(provider)
    with requests.Session() as session:
        received.append(session.post(url, **asked).json()["choices"][0]["message"]["content"])
        received.append([*session.post(url, **streamed, stream=True).iter_lines()][-2])
        with session.post(url, **streamed, stream=True) as response:
            received.append(len(next(response.iter_content(9))))
        failed = session.post(url, **asked)
        received.append((failed.status_code, len(failed.content) > 0))
    script(provider)
    asyncio.run(by_aiohttp())
    gc.collect()
    return received


def of_libraries(targets: Iterable[str]) -> bool:
    return any(target.startswith(LIBRARIES) for target in targets)


def assert_true_as_far_as_it_goes(records: list[CallRecord]) -> None:
    """No record says what did not happen: the loss is of telemetry, and absent."""
    assert len(records) <= 8
    for record in records:
        assert record.error is None or record.error.status == 400
        assert record.text in (None, "I am well.") or "I am well.".startswith(record.text)


@pytest.mark.parametrize("row", [row for row in READ if of_libraries(row.where)], ids=lambda row: row.name)
def test_missing_private_name_of_a_library_costs_telemetry_only(
    row: PrivateName, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedProvider() as provider:
        bare = work_by_libraries(provider)
    other = row._replace(name="_moved_since")
    monkeypatch.setattr(private_names, VARIABLES[row], other)
    monkeypatch.setattr(private_names, "READ", tuple(other if each is row else each for each in READ))
    monkeypatch.setattr(private_names, "_warned", Once())
    with caplog.at_level(logging.WARNING), capture() as seen, ScriptedProvider() as provider:
        assert work_by_libraries(provider) == bare
        records = seen.records
    assert_true_as_far_as_it_goes(records)
    assert len([message for message in caplog.messages if f"._moved_since (lost: {row.lost}" in message]) == 1
    assert [message for message in caplog.messages if message.startswith("Could not")] == []


LIBRARY_HOOKS: Final = sorted({
    (f"{target}.{hook.attribute}", state)
    for hook in HOOKS if of_libraries(hook.targets) for target in hook.targets
    for state in ("missing", *(["changed"] if hook.reads else []))
})  # fmt: skip


@pytest.mark.parametrize(("place", "state"), LIBRARY_HOOKS)
def test_missing_hooked_name_of_a_library_costs_telemetry_only(
    place: str, state: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def moved(hook: Hook) -> Hook:
        if f"{hook.targets[0]}.{hook.attribute}" != place:
            return hook
        if state == "changed":
            return replace(hook, reads={**hook.reads, "gone": 9})
        return replace(hook, targets=tuple(f"{target}_gone" for target in hook.targets))

    with ScriptedProvider() as provider:
        bare = work_by_libraries(provider)
    monkeypatch.setattr(patching, "HOOKS", tuple(map(moved, HOOKS)))
    with caplog.at_level(logging.WARNING), capture() as seen, ScriptedProvider() as provider:
        assert work_by_libraries(provider) == bare
        states = {one.name: one.state for one in callspan.patch_status()}
        records = seen.records
    assert state == "changed" or states.get(place.replace(":", ".")) != "on"
    assert_true_as_far_as_it_goes(records)
    assert [message for message in caplog.messages if message.startswith("Could not")] == []


OURS: Final = str(Path(fail_open.__file__).parents[1])
NOT_OURS: Final = (str(Path(OURS, "testing")), fail_open.__file__)
"""Below which nothing raises: what is of the tests, and the guard itself."""
LAZY: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
GUARDS: Final = ("hooked", "_run_on_error", "_run_on_failure", "__del__", "_collected", "<")
"""What calls the guarded steps, or is called by the interpreter; and comprehensions."""
FUNCTIONS: Final = scaled(6, 1_000_000)
"""How many functions of each use raise, at most."""


class Functions:
    """Counts the functions of callspan that others of it call, from each place once; one of them raises at its call."""

    def __init__(self, at: int | None = None) -> None:
        self.count, self.at = 0, at
        self.has_call = False
        """Whether there was a call before the one that raises."""
        self.place = ""
        self._seen = set[object]()

    def __enter__(self) -> None:
        sys.settrace(self._call)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: object) -> None:
        code, caller = frame.f_code, frame.f_back
        if caller is None or code.co_flags & LAZY or code.co_name.startswith(GUARDS) or not is_ours(code):
            return
        place = code, caller.f_code, caller.f_lineno
        if place in self._seen or not is_ours(caller.f_code):
            return
        self._seen.add(place)
        self.count += 1
        if self.count == self.at:
            sys.settrace(None)
            self.place = f"{code.co_name} in {caller.f_code.co_filename.removeprefix(OURS)}:{caller.f_lineno}"
            boom()
        self.has_call |= code.co_name == DeferredEnds.track.__name__


def is_ours(code: CodeType) -> bool:
    file = code.co_filename
    return file.startswith(OURS) and not file.startswith(NOT_OURS)


def faults_of(use: Use, clients: Clients, functions: Functions, bare: object) -> Iterator[str]:
    """Yield what is wrong about a use while a function raises, and about the call after it."""
    lost = list[object]()
    with pytest.MonkeyPatch.context() as patch, capture() as seen:
        patch.setattr(sys, "unraisablehook", lambda given: lost.append(given.exc_value))
        try:
            with functions:
                result = use(clients)
        except Exception as error:  # noqa: BLE001 - whatever reaches the application
            result = repr(error)
        if str(result) != str(bare):
            yield f"the application got {result}"
        yield from map(repr, lost)
        calls, spans = seen.records, [span for span in seen.spans if span.kind.name == "CLIENT"]
        ids = {call.call_id for call in calls}  # an end that fails once written is repeated, and stores merge both
        if not functions.has_call <= len(ids) <= 1 or len(spans) > 1:
            yield f"{len(ids)} records, {len(spans)} spans"
        plain(clients)
        following = [(call.outcome, call.parent_span_id) for call in seen.records[len(calls) :]]
        if following != [("success", None)]:
            yield f"the next call: {following}"


@pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")  # aiohttp, of google-genai
@pytest.mark.timeout(scaled(2 * HANG_S, 0))
@pytest.mark.parametrize("use", [*GENERATED, *HTTP, *HOOKED], ids=lambda use: use.__name__)
def test_raising_function_never_breaks_a_call(use: Use, provider: ScriptedProvider) -> None:
    """Nor its record, once there is a call."""
    with closing(Clients(provider)) as clients:
        use(clients)
        with capture():
            bare, functions = use(clients), Functions()
            with functions:
                use(clients)
        faults = []
        gc.freeze()  # each capture collects garbage
        for at in range(1, functions.count + 1, max(1, functions.count // FUNCTIONS)):
            raising = Functions(at)
            wrong = copy_context().run(list, faults_of(use, clients, raising, bare))
            faults += [f"{raising.place}: {what}" for what in wrong]
    assert not faults, "\n".join(faults)


HANDS_ON = {"agent/decorators.py": 2, "otlp/receiver.py": 1, "receive/inbox.py": 1, "runtime/sdk_import.py": 1}
"""Handlers that pass every exception on: into a generator, as a result, or to the log."""
HANDLES = re.compile(r"\breport\(|\braise\b")


def test_only_fail_open_swallows_exceptions() -> None:
    source, silent = Path(fail_open.__file__).parents[1], Counter[str]()
    handling = [path for path in source.rglob("*.py") if re.search(r"\bexcept\s*(:|[^:]*Exception)", path.read_text())]
    for path in handling:
        for node in ast.walk(ast.parse(path.read_text())):
            handler = ast.unparse(node) if isinstance(node, ast.ExceptHandler) else ""
            catches_all = re.match(r"except(:| .*\b(Base)?Exception\b)", handler)
            silent[path.relative_to(source).as_posix()] += bool(catches_all and not HANDLES.search(handler))
    assert +silent == HANDS_ON
