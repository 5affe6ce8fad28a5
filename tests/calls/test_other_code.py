"""Other code around calls: of the application, as without callspan; of tracers that wrap requests or suppress."""

from __future__ import annotations

import functools
import gc
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib import import_module
from typing import Any

import openai
import pytest
import wrapt
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from tests.calls import transports
from tests.calls.conftest import HOOKS
from tests.support import sdks
from tests.support.calls import MESSAGE, Wire, ask, caught, causes, client_of, passing_on, text_of, the_call
from tests.support.mode import Mode
from tests.support.scale import scaled
from tests.support.telemetry import kept_spans
from tests.support.waiting import HANG_S

import callspan
from callspan.records import Record
from callspan.testing import Capture, ScriptedProvider, capture

LONG = "one two three four five six seven eight nine ten"


class UnspeakableError(Exception):
    """Whatever is asked of it, it raises."""

    @property
    def status_code(self) -> int:
        raise ValueError("ask me not")

    @property
    def body(self) -> object:
        raise RuntimeError("ask me not")

    @property
    def request_id(self) -> str:
        raise KeyError("ask me not")

    def __str__(self) -> str:
        raise TypeError("ask me not")

    __repr__ = __str__


class Sign(BaseException):
    """No `Exception`, as exits and interrupts are none."""


RAISED: list[BaseException] = [
    ValueError("odd"), UnspeakableError(), Sign("stop"), KeyboardInterrupt(), SystemExit(3), GeneratorExit(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"), OSError(5, "odd"), AssertionError(), MemoryError(),
    RecursionError(),
]  # fmt: skip


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
async def test_transport_errors_reach_the_caller(stream: bool, sdk: str, error: BaseException, mode: Mode) -> None:
    """In place of a response, or after the first half of a stream."""
    begun = transports.wire_of(sdk, LONG).partition(b"six")[0] + b'"}}\n\n'

    def fail(request: Any) -> Any:
        raise error

    async def body() -> None:
        handler = transports.answer(sdk, begun, error) if stream else fail
        await mode.whole(await transports.wire(mode, sdk, handler).ask(stream=stream))

    bare = await caught(body())
    with capture() as seen:
        ours = await caught(body())
        record = the_call(seen)
    assert [*map(type, causes(ours))] == [*map(type, causes(bare))]
    assert (ours is error) == (bare is error)
    if stream:
        assert record.outcome in ("error", "cancelled")
        assert LONG.startswith(text_of(record))
    else:
        assert record.outcome == ("error" if isinstance(error, Exception) else "cancelled")
        assert record.error is not None


# Trio warns of every generator that is not read to its last item, as the SDKs leave theirs.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["plain", "stream", "cancelled"])
def test_trio_calls_are_recorded(how: str, sdk: str, provider: ScriptedProvider, seen: Capture) -> None:
    trio = pytest.importorskip("trio", reason="trio is not installed")
    provider.reply(status=429, retry_after_s=0.001)
    provider.reply(text="I am well.", first_token_delay_s=HANG_S if how == "cancelled" else 0)

    async def body() -> None:
        mode = Mode("async", provider)
        result = await ask(client_of(mode, sdk, max_retries=1), stream=how != "plain")
        if how == "stream":
            await mode.all(result)
        if how == "cancelled":
            with trio.move_on_after(0.2) as scope:
                await mode.all(result)
            assert scope.cancelled_caught
        await mode.close()

    trio.run(body)
    record = the_call(seen)
    assert [attempt.status for attempt in record.attempts] == [429, 200]
    if how == "cancelled":
        ended = (record.outcome, record.stream and record.stream.end, record.error.kind)
        # Newer versions of trio say in the exception that it comes from a deadline.
        says_why = "source" in inspect.signature(trio.Cancelled.__init__).parameters
        assert ended == (("timeout", "error", "timeout") if says_why else ("cancelled",) * 3)
    else:
        assert (record.outcome, text_of(record)) == ("success", "I am well.")


@pytest.mark.parametrize("how", ["plain", "raw", "streaming"])
async def test_stream_requested_in_extra_body_is_unchanged(how: str, wire: Wire, nothing_warned: None) -> None:
    """`extra_body` asks for a stream the SDK does not expect, and hands on as text: its record has the answer."""
    wire.mode.provider.reply(text="I am well.", repeat=True)
    asked: dict[str, Any] = {"extra_body": {"stream": True, "top_k": 7}}

    async def received() -> Any:
        if how == "plain":
            return await wire.ask(**asked)
        if how == "raw":
            return (await wire.ask(response="raw", **asked)).text
        return await wire.streaming("read", **asked)

    bare = type(await received())
    with capture() as seen:
        assert type(await received()) is bare
        record = the_call(seen)
    assert (record.outcome, record.stream, text_of(record)) == ("success", None, "I am well.")
    assert record.request.params["top_k"] == 7


def base_of(client: Any) -> type:
    return next(kind for kind in type(client).__mro__ if kind.__name__ in ("SyncAPIClient", "AsyncAPIClient"))


class Wrapping:
    """Another library: it wraps `request`, notes each call, and works under suppression if it is to."""

    def __init__(self, *, suppresses: bool) -> None:
        self.calls = 0
        self._suppresses = suppresses

    @contextmanager
    def around(self) -> Iterator[None]:
        self.calls += 1
        with suppress_instrumentation() if self._suppresses else nullcontext():
            yield

    def wrapper(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A closure over the function, as it is found now."""

        def request(*args: Any, **kwargs: Any) -> Any:
            with self.around():
                return original(*args, **kwargs)

        async def request_async(*args: Any, **kwargs: Any) -> Any:
            with self.around():
                return await original(*args, **kwargs)

        return request_async if inspect.iscoroutinefunction(original) else request


def on_the_class(wrapping: Wrapping, client: Any) -> None:
    original = type(client).request
    type(client).request = functools.wraps(original)(wrapping.wrapper(original))


def on_the_client(wrapping: Wrapping, client: Any) -> None:
    client.request = functools.wraps(client.request)(wrapping.wrapper(client.request))


def on_the_base(wrapping: Wrapping, client: Any) -> None:
    base: Any = base_of(client)
    base.request = functools.wraps(base.request)(wrapping.wrapper(base.request))


def on_the_base_without_a_trace(wrapping: Wrapping, client: Any) -> None:
    """Nothing says what it wraps: callspan's hook, if it comes later, is around it."""
    base: Any = base_of(client)
    base.request = wrapping.wrapper(base.request)


def on_the_base_in_a_circle(wrapping: Wrapping, client: Any) -> None:
    """It says that it wraps itself, so that what is innermost cannot be found."""
    on_the_base_without_a_trace(wrapping, client)
    base: Any = base_of(client)
    base.request.__wrapped__ = base.request


def by_wrapt(wrapping: Wrapping, client: Any) -> None:
    def around(wrapped: Any, instance: object, args: Any, kwargs: Any) -> Any:
        return wrapping.wrapper(wrapped)(*args, **kwargs)

    wrapt.wrap_function_wrapper(type(client), "request", around)


def by_an_override_of_a_kept_function(wrapping: Wrapping, client: Any) -> None:
    client.__class__ = type("Own", (type(client),), {"request": wrapping.wrapper(base_of(client).request)})  # type: ignore[attr-defined]


WAYS = [
    on_the_class, on_the_client, on_the_base, on_the_base_without_a_trace, on_the_base_in_a_circle, by_wrapt,
    by_an_override_of_a_kept_function,
]  # fmt: skip


@pytest.fixture
def own(sdk: str, mode: Mode) -> Iterator[Any]:
    """A client of a class of its own, all of whose calls succeed; afterwards `request` of the SDK is as it was."""
    mode.provider.reply(text="I am well.", repeat=True)
    client = client_of(mode, sdk)
    base: Any = base_of(client)
    before = vars(base)["request"]
    client.__class__ = type("Client", (type(client),), {})
    yield client
    base.request = before


async def asked(mode: Mode, client: Any) -> None:
    await mode.wait(ask(client))
    await mode.all(await mode.wait(ask(client, stream=True)))


ORDERS = [(True, True), (False, False), (True, False), (False, True)]
"""Whether the other library is there first, and whether it suppresses what is below it."""


@pytest.mark.parametrize(("is_first", "suppresses"), scaled(ORDERS[:2], ORDERS))
@pytest.mark.parametrize("way", WAYS)
async def test_wrapped_request_records_one_call(
    way: Callable[[Wrapping, Any], None], *, is_first: bool, suppresses: bool, own: Any, mode: Mode
) -> None:
    wrapping = Wrapping(suppresses=suppresses)
    if is_first:
        way(wrapping, own)
    with capture() as seen:
        if not is_first:
            way(wrapping, own)
        await asked(mode, own)
        assert wrapping.calls == 2
        assert [(call.outcome, call.text) for call in seen.records] == [("success", "I am well.")] * 2
        is_outside = is_first and way in (on_the_base_without_a_trace, on_the_base_in_a_circle)
        assert len(seen.spans) == (0 if suppresses and not is_outside else 2)
    await asked(mode, own)
    assert len(seen.records) == 2


async def test_removing_a_wrapper_keeps_calls_recorded(own: Any, mode: Mode) -> None:
    """It restores the function that it has found, which callspan did not see then."""
    kept = type(own).request
    on_the_class(Wrapping(suppresses=False), own)
    with capture() as seen:
        type(own).request = kept
        await asked(mode, own)
        assert len(seen.records) == 2


async def test_covered_hook_is_reused(own: Any, mode: Mode) -> None:
    function: Any = base_of(own).request  # type: ignore[attr-defined]
    code = function.__code__
    with capture():
        ours = function.__code__
        function.__code__ = ours.replace(co_firstlineno=1)
    await asked(mode, own)
    with capture() as seen:
        await asked(mode, own)
        assert len(seen.records) == 2
        function.__code__ = ours
    assert function.__code__ is code


@pytest.mark.parametrize("over", ["as the capture ends", "for good"])
async def test_covered_hook_records_once(over: str, sdk: str, mode: Mode) -> None:
    """A mock that restores the hook after the capture, as `monkeypatch` of an earlier test does, or a wrapper."""
    client = client_of(mode, sdk)
    places = [(defining(client._client, "send"), "send")]
    places.append((defining(client, "_process_response_data"), "_process_response_data"))
    with pytest.MonkeyPatch.context() as test, pytest.MonkeyPatch.context() as mock:
        for owner, name in places:
            test.setattr(owner, name, vars(owner)[name])
        with capture() as before:
            await asked(mode, client)
            for owner, name in places:
                mock.setattr(owner, name, passing_on(vars(owner)[name]))
        if over == "as the capture ends":
            mock.undo()
        for _ in range(2):
            with capture() as seen:
                await asked(mode, client)
            assert counted(seen) == counted(before)


def hooked_functions() -> dict[tuple[str, str], tuple[Any, str]]:
    """Each function with a hook that the installed SDKs and libraries have: its class or module, and its name."""
    places: dict[tuple[str, str], tuple[Any, str]] = {}
    for hook in HOOKS:
        for target in hook.targets:
            module, _, kind = target.partition(":")
            with suppress(ImportError):
                owner = getattr(import_module(module), kind or "__dict__", None)
                owners = owner.__mro__ if inspect.isclass(owner) else () if kind else (import_module(module),)
                holder = next((one for one in owners if inspect.isfunction(vars(one).get(hook.attribute))), None)
                if holder is not None:
                    places[target, hook.attribute] = (holder, hook.attribute)
    return places


def seen_of(function: Any) -> tuple[object, ...]:
    named = function.__name__, function.__qualname__, function.__doc__, function.__module__
    return inspect.signature(function), *named


def test_hooks_look_like_their_functions_also_below_later_wrappers() -> None:
    """New Relic's agent binds arguments by the signature of what it has wrapped."""
    places = hooked_functions()
    originals = {place: vars(owner)[name] for place, (owner, name) in places.items()}
    looks = {place: seen_of(function) for place, function in originals.items()}
    assert len({target.partition(".")[0] for target, _ in places}) >= 8
    with pytest.MonkeyPatch.context() as mock:
        with capture():
            hooks = {place: vars(owner)[name] for place, (owner, name) in places.items()}
            assert {place: seen_of(hook) for place, hook in hooks.items()} == looks
            for place, (owner, name) in places.items():
                mock.setattr(owner, name, passing_on(hooks[place]))
        awaited = {(target, hook.attribute) for hook in HOOKS if hook.is_async for target in hook.targets}
        plain = {place for place, hook in hooks.items() if not inspect.iscoroutinefunction(hook)} - awaited
        unawaited = {name for place in plain if inspect.iscoroutinefunction(originals[place]) for name in place[1:]}
        assert unawaited <= {"_process_response"}, "whose hook looks only at arguments, as one above a hook must know"
        for _ in range(2):
            with capture():
                assert {place: seen_of(hook) for place, hook in hooks.items()} == looks
            assert {place: seen_of(hook) for place, hook in hooks.items()} == looks
        for place, (owner, name) in places.items():
            mock.setattr(owner, name, originals[place])


async def test_wrapt_wrapper_receives_self(sdk: str, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `ddtrace-run` and Elastic APM wrap `send`; later with other code over the hook."""
    client, instances = client_of(mode, sdk), list[object]()

    def around(wrapped: Any, instance: object, args: Any, kwargs: Any) -> Any:
        instances.append(instance)
        return wrapped(*args, **kwargs)

    owner: Any = defining(client._client, "send")
    monkeypatch.setattr(owner, "send", wrapt.FunctionWrapper(owner.send, around))
    for _ in range(2):
        with capture() as seen:
            await asked(mode, client)
            assert [len(call.attempts) for call in seen.records] == [1, 1]
            monkeypatch.setattr(owner, "send", passing_on(owner.send))
    assert instances == [client._client] * 4


def defining(client: object, name: str) -> type:
    return next(kind for kind in type(client).__mro__ if name in vars(kind))


def counted(seen: Capture) -> list[tuple[int, int | None]]:
    return [(len(call.attempts), call.stream and call.stream.chunks) for call in seen.records]


def sends_by_itself(client: Any) -> None:
    """Give the class of a client the code of the SDK's `request` as its own."""
    function: Any = base_of(client).request  # type: ignore[attr-defined]
    copied = type(function)(
        function.__code__, function.__globals__, "request", function.__defaults__, function.__closure__
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    type(client).request = copied


async def test_bypassed_hooks_are_counted(
    sdk: str, own: Any, mode: Mode, unwarned: None, caplog: pytest.LogCaptureFixture
) -> None:
    sends_by_itself(own)
    with capture(http=False) as seen:
        await asked(mode, own)
        assert seen.records == []
    path = "/v1/chat/completions" if sdk == "openai" else "/v1/messages"
    (warned,) = [message for message in caplog.messages if "not recorded" in message]
    assert f"POST {path} by Client.request" in warned


async def test_requests_around_hooks_are_calls(
    own: Any, mode: Mode, unwarned: None, caplog: pytest.LogCaptureFixture
) -> None:
    sends_by_itself(own)
    with capture() as seen:
        await asked(mode, own)
    assert [(call.outcome, call.text) for call in seen.records] == [("success", "I am well.")] * 2
    assert [message for message in caplog.messages if "not recorded" in message] == []


async def test_suppressed_call_counts_in_its_session_without_a_span(sdk: str, mode: Mode, seen: Capture) -> None:
    with callspan.session("episode"), suppress_instrumentation():
        await asked(mode, client_of(mode, sdk))
    found = [(call.outcome, call.span_id, call.place.session_name) for call in seen.records]
    assert found == [("success", None, "episode")] * 2
    assert [span.name for span in seen.spans] == ["invoke_workflow episode"]
    assert seen.sessions[-1].totals.calls == 2


def test_calls_made_by_a_redactor_are_not_recorded(client: openai.OpenAI) -> None:
    asked: list[Any] = []

    def redact(record: Record) -> Record:
        if threading.current_thread() is not threading.main_thread() and not asked:
            asked.append(ask(client))
        return record

    with capture(redact=redact) as seen:
        stream = ask(client, stream=True)
        next(stream)
        del stream
        gc.collect()
        assert [call.outcome for call in seen.records] == ["cancelled"]
    assert len(asked) == 1


class AsyncItems:
    """The items of a stream, in an object that no weak reference can refer to, as to none of `map`."""

    __slots__ = ("_items",)

    def __init__(self, items: Any) -> None:
        self._items = items

    def __aiter__(self) -> AsyncItems:
        return self

    async def __anext__(self) -> Any:
        return await self._items.__anext__()


@pytest.mark.parametrize("hides", [False, True])
async def test_replaced_stream_reader_is_recorded(*, hides: bool, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    stream: Any = openai.AsyncStream if mode.is_async else openai.Stream
    items: Any = AsyncItems if mode.is_async else partial(map, lambda item: item)
    original = vars(stream)["__stream__"]
    monkeypatch.setattr(stream, "__stream__", lambda self: items(original(self)))
    mode.provider.reply(text="I am well.")
    with capture(stream_usage=hides) as seen:
        chunks = await mode.all(await mode.wait(ask(mode.openai(), stream=True)))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "I am well."
    call = the_call(seen)
    assert (call.outcome, call.text, call.usage is not None) == ("success", "I am well.", hides)


@pytest.mark.parametrize("how", ["plain", "stream", "helper"])
async def test_only_callspan_creates_spans(
    how: str, mode: Mode, seen: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's own would go to the global provider; ours have a provider of their own here."""
    sdks.needs("anthropic", "1.14", "tracing of its own")
    provider, exporter = kept_spans()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    messages = mode.anthropic().messages
    if how == "helper":
        async with mode.entered(messages.stream(**MESSAGE)) as stream:
            await mode.wait(stream.until_done())
    else:
        await mode.whole(messages.create(**MESSAGE, stream=how == "stream"))
    the_call(seen)
    assert exporter.get_finished_spans() == ()
