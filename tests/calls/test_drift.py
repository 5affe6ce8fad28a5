"""Future SDKs and HTTP libraries: hooked functions with other parameters, other results, or other types.

Each hook stands around a changed original, once with callspan and once without, and calls must come to the same.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import logging
import re
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial, wraps
from itertools import islice
from typing import Any, Final, TypeAlias, cast

import aiohttp
import anthropic._base_client
import pytest
import requests
from tests.support import loops, sdks
from tests.support.calls import CHAT, Wire, causes, passing_on, text_of
from tests.support.mode import Mode
from tests.support.scale import scaled

import callspan
from callspan.records import CallRecord
from callspan.testing import Capture, ScriptedProvider, capture

Function = Callable[..., Any]


def hooked() -> dict[tuple[str, str], list[str]]:
    """The modules of each hook that a plain client meets, by SDK and by class and function."""
    found: dict[tuple[str, str], list[str]] = {}
    with capture():
        statuses = [status for status in callspan.patch_status() if status.sdk in ("openai", "anthropic")]
    for status in statuses:
        module, owner, attribute = status.name.rsplit(".", 2)
        if module.endswith(("._base_client", "._streaming")) or module.startswith("httpx"):
            found.setdefault((status.sdk, f"{owner}.{attribute}"), []).append(module)
    return found


MODULES = hooked()
HOOKS = sorted({hook for _, hook in MODULES})
SAMPLE = [hook for hook in HOOKS if hook.endswith((".request", ".__stream__"))]


def module_of(sdk: str, hook: str) -> Any:
    own = next((name for name in MODULES[sdk, hook] if name.startswith(f"{sdk}.")), None)
    return sdks.http_of(sdk) if own is None else importlib.import_module(own)


def place(sdk: str, hook: str) -> type:
    """The class in whose dictionary the hooked function lies."""
    owner, attribute = hook.split(".")
    kinds: tuple[type, ...] = getattr(module_of(sdk, hook), owner).__mro__
    return next(kind for kind in kinds if attribute in vars(kind))


@contextmanager
def replaced(owner: type, name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """What `change` makes of a class's attribute, in its place."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, change(vars(owner)[name]))
        yield


# How an original changes, and how its caller does.


def taking(at: int | None) -> Callable[[Function], Function]:
    """One more parameter, which is given: at that position, counting the instance, or by its name."""

    def change(original: Function) -> Function:
        def changed(*args: Any, **kwargs: Any) -> Any:
            assert (kwargs.pop("extra") if at is None else args[at]) == "more"
            return original(*(args if at is None else args[:at] + args[at + 1 :]), **kwargs)

        declared = list(inspect.signature(original).parameters.values())
        kind = inspect.Parameter.KEYWORD_ONLY if at is None else inspect.Parameter.POSITIONAL_OR_KEYWORD
        last = len(declared) - any(parameter.kind is parameter.VAR_KEYWORD for parameter in declared)
        declared.insert(last if at is None else at, inspect.Parameter("extra", kind))
        changed.__signature__ = inspect.Signature(declared)  # type: ignore[attr-defined]
        return changed

    return change


def giving(at: int | None) -> Callable[[Function], Function]:
    """A caller that gives it."""

    def change(function: Function) -> Function:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if at is None:
                return function(*args, extra="more", **kwargs)
            return function(*args[:at], "more", *args[at:], **kwargs)

        return call

    return change


class DriftedError(Exception):
    """What a changed original raises."""


def in_its_place(original: Function, work: Callable[[], None]) -> Function:
    """A function of the original's colour that does something else."""

    def changed(*args: Any, **kwargs: Any) -> None:
        work()

    async def waited(*args: Any, **kwargs: Any) -> None:
        await asyncio.sleep(0)  # who waits for bytes in a loop lets them come
        work()

    return waited if inspect.iscoroutinefunction(original) else changed


def nothing(original: Function) -> Function:
    return in_its_place(original, lambda: None)


def raising(original: Function) -> Function:
    def fail() -> None:
        raise DriftedError("as it is now")

    return in_its_place(original, fail)


def coroutine(original: Function) -> Function:
    async def changed(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    return changed


def partial_property(original: Function) -> Any:
    return property(lambda self: partial(original, self))


class Frozen:
    """A function that lies in the class as an object, as compiled ones do."""

    def __init__(self, original: Function) -> None:
        self._original = original

    def __get__(self, instance: object, owner: type | None = None) -> Function:
        return partial(self._original, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._original(*args, **kwargs)


# What callers do, and what comes of it.

WAYS: tuple[Callable[[Wire], Awaitable[object]], ...] = (
    Wire.ask, Wire.read, partial(Wire.leave, how="closed"), partial(Wire.streaming, read="read"),
)  # fmt: skip
WITHOUT_HEADERS: Final = (
    {"open_telemetry": {"propagation": False}}
    if "open_telemetry" in inspect.signature(anthropic.Anthropic).parameters
    else {}
)
"""Without callspan the SDK's own span would read the headers of a request that is none, before anything else does."""


async def outcomes(mode: Mode, sdk: str) -> list[str]:
    """What the caller has of each way: a value, or the exception with its causes."""
    received: list[str] = []
    mode.provider.reply(status=429, retry_after_s=0.001)
    for way in WAYS:
        wire = Wire("chat_completions" if sdk == "openai" else "messages", mode)
        wire.options = {"max_retries": 1, **({} if sdk == "openai" else WITHOUT_HEADERS)}
        try:
            answer = await way(wire)
            received += [type(item).__name__ for item in wire.received or [answer]]
            received += [str(len(answer))] if isinstance(answer, bytes) else []
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
            received.append(" < ".join(f"{type(one).__name__}: {one}" for one in causes(error)))
    await mode.close()
    gc.collect()  # what was dropped closes its response while the changed function has its callers
    return received


async def compared(
    mode: Mode, sdk: str, hook: str, change: Function, calling: Function | None = None
) -> tuple[list[str], Capture, str]:
    """The outcomes, the same with callspan as without; what was captured, and the state of the hook."""
    owner, attribute = place(sdk, hook), hook.partition(".")[2]

    def caller() -> AbstractContextManager[None]:
        return nullcontext() if calling is None else replaced(owner, attribute, calling)

    with replaced(owner, attribute, change):
        with caller():
            bare = await outcomes(mode, sdk)
        with capture() as seen:
            states = {status.name: status.state for status in callspan.patch_status() if status.sdk == sdk}
            with caller():
                assert await outcomes(mode, sdk) == bare
        # A test may have imported the HTTP library that this SDK is not built on, too.
        return bare, seen, states[f"{module_of(sdk, hook).__name__}.{hook}"]


def concerns(hook: str, mode: Mode) -> bool:
    """Whether calls of this colour come by."""
    owner, attribute = hook.split(".")
    return not (
        owner.startswith("Sync" if mode.is_async else "Async")
        or (mode.is_async and owner in ("Stream", "Client"))
        or attribute in (("close", "iter_bytes") if mode.is_async else ("aclose", "aiter_bytes"))
    )


@pytest.mark.parametrize("at", [None, 1])
@pytest.mark.parametrize("hook", scaled(SAMPLE, HOOKS))
async def test_new_parameter(hook: str, at: int | None, sdk: str, mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    if not concerns(hook, mode):
        return
    mode.provider.reply(text="I am well.", repeat=True)
    with caplog.at_level(logging.WARNING):
        bare, seen, state = await compared(mode, sdk, hook, taking(at), giving(at))
    assert [text for text in bare if "Error" in text] == []
    assert state == "on"
    records = seen.records
    assert len(records) == len(seen.spans) == len(WAYS)
    assert [record.stream.end if record.stream else None for record in records] == [None, "complete", "closed", None]
    assert all(record.response is not None and record.response.body_bytes for record in records[:2])
    assert [len(record.attempts) for record in records] == [2, 1, 1, 1]
    # The caller of `request` here looks like an instrumentation of somebody else.
    other = "instruments the same SDKs"
    assert all(other in message for message in caplog.messages), "a parameter that is passed on is no news"


@pytest.mark.parametrize("at", [1, 4], ids=["first", "last"])
async def test_tool_hook_tolerates_new_positional_parameter(at: int, mode: Mode) -> None:
    sdks.needs("anthropic", "2.10", "these tool runners")
    owner = importlib.import_module("anthropic.lib.tools._beta_runner").BaseToolRunner
    mode.provider.reply(tool_calls=[loops.request()])
    mode.provider.reply(text="I am well.")
    with replaced(owner, "_tool_use_span", taking(at)), capture() as seen:
        with replaced(owner, "_tool_use_span", giving(at)):
            await mode.wait(loops.of_anthropic(mode, str).until_done())
        (tool,) = loops.rows(seen, "tool")
    assert (tool.name, tool.tool_call_id) == ("weather", "call_1")


CHANGES: list[Any] = [nothing, raising, coroutine, passing_on, partial_property, Frozen]


@pytest.mark.parametrize("change", scaled([raising, coroutine, partial_property], CHANGES))
# A coroutine that the SDK does not expect is awaited by nobody, without us too.
@pytest.mark.filterwarnings("ignore:.*was never awaited", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("hook", HOOKS)
async def test_changed_sdk_functions_return_the_same(change: Function, hook: str, sdk: str, mode: Mode) -> None:
    if not concerns(hook, mode):
        return
    # Of its own: what a changed function leaves unasked for is no answer for the next.
    with ScriptedProvider() as mode.provider:
        mode.provider.reply(text="I am well.", repeat=True)
        _, seen, state = await compared(mode, sdk, hook, change)
    assert state == ("missing" if change is partial_property else state)
    assert len(seen.records) <= len(WAYS)
    # What is no function is left alone; what the SDK would have to await, and does not, has no end.
    if change is not coroutine and not (hook.endswith(".request") and change is partial_property):
        assert len(seen.records) == len(WAYS), "every call has a record, whatever became of it"


# HTTP libraries that applications call themselves.


class Stand:
    """What stands for an object of another type, with all its attributes."""

    __slots__ = ("instance",)

    def __init__(self, instance: object) -> None:
        self.instance = instance

    def __getattr__(self, name: str) -> Any:
        return getattr(self.instance, name)


def other_type(value: Any) -> Any:
    """The same as another type."""
    if isinstance(value, bytes):
        return bytearray(value)
    if inspect.isgenerator(value):
        return map(bytes, cast("Iterable[bytes]", value))
    return value if value is None else Stand(value)


def returning(original: Function) -> Function:
    """Results of other types."""

    def changed(*args: Any, **kwargs: Any) -> Any:
        return other_type(original(*args, **kwargs))

    async def waited(*args: Any, **kwargs: Any) -> Any:
        return other_type(await original(*args, **kwargs))

    return waited if inspect.iscoroutinefunction(original) else changed


def accepting(original: Function) -> Function:
    """Arguments of other types, as `handing` gives them."""

    def changed(owner: Any, *args: Any, **kwargs: Any) -> Any:
        plain = (arg.instance if isinstance(arg, Stand) else arg for arg in args)
        return original(owner, *plain, **kwargs)

    async def waited(owner: Any, *args: Any, **kwargs: Any) -> Any:
        plain = (arg.instance if isinstance(arg, Stand) else arg for arg in args)
        return await original(owner, *plain, **kwargs)

    function: Function = waited if inspect.iscoroutinefunction(original) else changed
    function.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    return function


def handing(function: Function) -> Function:
    @wraps(function)
    def call(owner: Any, *args: Any, **kwargs: Any) -> Any:
        return function(owner, *map(Stand, args), **kwargs)

    return call


def naming(function: Function) -> Function:
    """A caller that gives every argument by its name."""
    names = [*inspect.signature(function).parameters][1:]

    @wraps(function)
    def call(owner: Any, *args: Any, **kwargs: Any) -> Any:
        return function(owner, **dict(zip(names, args, strict=False)), **kwargs)

    return call


def same(original: Any) -> Any:
    return original


LIBRARIES: Final = ("requests", "urllib3", "aiohttp")


def library_hooks() -> list[str]:
    """The hooked functions of these libraries: module, class and name."""
    with capture():
        return sorted({status.name for status in callspan.patch_status() if status.name.startswith(LIBRARIES)})


LIBRARY_HOOKS: Final = library_hooks()
PATIENCE_S: Final = 1
CIRCLING_S: Final = 1
MAX_TRIALS: Final = 6
"""The bytes of a stream arrive before or after they are waited for."""
URL: Final = "/v1/chat/completions"
STREAMED: Final[dict[str, Any]] = {**CHAT, "stream": True}
REFUSED: Final = {**CHAT, "model": "refused"}


def shown(pieces: Iterable[Any]) -> object:
    """The types of the pieces of a stream, and whether all of it is there; ids and sizes differ each time."""
    received = list(pieces)
    return {type(piece).__name__ for piece in received}, b"[DONE]" in b"".join(received)


def by_requests(url: str) -> dict[str, Callable[[], object]]:
    def pieces_of_raw() -> object:
        raw = requests.post(url, json=STREAMED, stream=True, timeout=PATIENCE_S).raw
        return shown(islice(iter(partial(raw.read, 99), b""), 999))  # what is no bytes has no end

    def closed() -> object:
        with requests.post(url, json=STREAMED, stream=True, timeout=PATIENCE_S) as response:
            return next(response.iter_content(9))

    return {
        "content": lambda: requests.post(url, json=CHAT, timeout=PATIENCE_S).json()["choices"][0]["message"]["content"],
        "lines": lambda: shown(requests.post(url, json=STREAMED, stream=True, timeout=PATIENCE_S).iter_lines()),
        "raw": pieces_of_raw,
        "closed": closed,
        "refused": lambda: requests.post(url, json=REFUSED, timeout=PATIENCE_S).status_code,
        "no connection": lambda: requests.post("http://127.0.0.1:1/v1/chat/completions", json=CHAT, timeout=PATIENCE_S),
    }


def by_aiohttp(url: str) -> dict[str, Callable[[], object]]:
    def run(body: Any, read: Callable[[Any], Awaitable[object]], to: str = url) -> Callable[[], object]:
        async def work() -> object:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE_S)) as session,
                session.post(to, json=body) as response,
            ):
                return await read(response)

        return lambda: asyncio.run(asyncio.wait_for(work(), 2 * PATIENCE_S))

    async def text(response: Any) -> object:
        return (await response.json())["choices"][0]["message"]["content"]

    async def pieces(response: Any) -> object:
        return shown([piece async for piece in response.content.iter_any()])

    async def closed(response: Any) -> object:
        first = await response.content.read(9)
        response.close()
        return first

    async def released(response: Any) -> object:
        first = await response.content.readany()
        await asyncio.sleep(0)
        response.release()
        return bool(first)

    async def status(response: Any) -> object:
        return response.status

    return {
        "content": run(CHAT, text),
        "pieces": run(STREAMED, pieces),
        "closed": run(STREAMED, closed),
        "released": run(STREAMED, released),
        "refused": run(REFUSED, status),
        "no connection": run(CHAT, text, "http://127.0.0.1:1/v1/chat/completions"),
    }


class Endless(BaseException):
    """What ends a loop without an end, such as one that reads until there are bytes."""


def stop(*_: object) -> None:
    raise Endless


@contextmanager
def bounded() -> Iterator[None]:
    """Ends what runs in circles, by the CPU time that it takes. What waits has a limit of its own."""
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, CIRCLING_S, CIRCLING_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


Taken: TypeAlias = dict[str, tuple[str, list[CallRecord]]]


def taken(ways: dict[str, Callable[[], object]], seen: Capture | None) -> Taken:
    """What the caller has of each way, a value or the exception with its causes; and the records of it."""
    outcomes = Taken()
    for name, way in ways.items():
        before = 0 if seen is None else len(seen.records)
        try:
            with bounded():
                outcome = repr(way())
        except (Endless, TimeoutError, requests.exceptions.Timeout):
            outcome = "Error: it has no end"  # whichever limit comes first
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
            outcome = " < ".join(f"{type(one).__name__}: {one}" for one in causes(error))
        gc.collect()
        records = [] if seen is None else seen.records[before:]
        outcomes[name] = re.sub("0x[0-9a-f]+", "", outcome), records
    return outcomes


DRIFTS: Final[dict[str, tuple[Function, Function]]] = {
    # the changed function, and its changed caller
    "a parameter more, by name": (taking(None), giving(None)),
    "a first parameter more": (taking(1), giving(1)),
    "names": (same, naming),
    "arguments of other types": (accepting, handing),
    "results of other types": (returning, same),
    **{change.__name__: (change, same) for change in CHANGES},
}


@pytest.mark.filterwarnings("ignore:.*was never awaited", "ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("drift", DRIFTS)
@pytest.mark.parametrize("hook", LIBRARY_HOOKS)
def test_changed_function_of_a_library_costs_telemetry_only(hook: str, drift: str) -> None:
    if (hook, drift) == ("urllib3.response.HTTPResponse.read", "coroutine"):
        return  # urllib3 reads coroutines without an end, whose warnings swallow what would end it
    module, owner_name, attribute = hook.rsplit(".", 2)
    kinds = getattr(importlib.import_module(module), owner_name).__mro__
    owner = next(kind for kind in kinds if attribute in vars(kind))
    change, caller = DRIFTS[drift]
    differing: list[str] = []
    for _ in range(MAX_TRIALS):
        with ScriptedProvider() as provider, replaced(owner, attribute, change):
            provider.reply(text="I am well.", repeat=True)
            provider.reply(status=400, on=lambda request: request.body["model"] == "refused", repeat=True)
            ways = (by_aiohttp if module.startswith("aiohttp") else by_requests)(f"{provider.url}{URL}")
            with replaced(owner, attribute, caller):
                bare = taken(ways, None)
            with capture() as seen:
                states = {status.name: status.state for status in callspan.patch_status()}
                with replaced(owner, attribute, caller):
                    with_us = taken(ways, seen)
        differing = [name for name in differing or ways if with_us[name][0] != bare[name][0]]
        if not differing:
            break
    assert {name: with_us[name][0] for name in differing} == {name: bare[name][0] for name in differing}
    assert states.get(hook) == ("missing" if drift == "partial_property" else "on")
    for name, (outcome, records) in with_us.items():
        assert len(records) <= 1, name
        for record in records:
            assert "I am well.".startswith(text_of(record)), name
            # What stands for a response has no observer: it is closed unseen.
            if "Error" not in outcome and drift != "results of other types":
                expected = 400 if name == "refused" else None
                assert (record.error and record.error.status) == expected, name
