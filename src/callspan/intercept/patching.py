"""Patching: the table of hooks, which it applies to SDKs and removes, with the status of each.

The names exist in openai 1.40 to 3.x and anthropic 0.34 to 2.x. A missing one costs only what its row states, never a
call. Hooks are applied when an SDK is imported, before or after `instrument()`: callspan imports no SDK itself.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec
import wrapt

from callspan import private_names as names
from callspan.fail_open import fail_open, log
from callspan.forks import renew_locks
from callspan.intercept import http_hooks, openai_agents, other_requests, raw, request, streams, tool_loops, websockets
from callspan.intercept.hooks import (
    HOOK_CONTEXT,
    VARIADIC,
    CodeHook,
    Function,
    Reads,
    innermost,
    observe_data,
    parameters,
)
from callspan.providers import registry
from callspan.sdk_profiles import PROFILES, SDKS, Sdk
from callspan.settings import InvalidValueError, SettingError, words_of

_SDK_NAMES: Final = cast("Callable[[object], tuple[Sdk, ...]]", words_of(Sdk))
_ANCHOR: Final = "_base_client"
"""The module of an SDK whose import shows that the SDK is used."""
_LOAD: Final = fail_open("import the modules that calls need")


class Hook(msgspec.Struct, frozen=True):
    """One function and its replacement."""

    attribute: str
    targets: tuple[str, ...]
    """Each `module:Class` with the method, in every SDK and HTTP library; `module` for a function."""
    make: Callable[..., Function]
    """Creates the replacement of the original; see `HookSteps.around`."""
    without: str
    """The loss if the name is missing."""
    keep_while_streaming: bool = True
    """Left in place when callspan is switched off, for the calls in progress."""
    in_code: bool = False
    """Put into the code of the function, which other libraries wrap, instead of in its place; see `CodeHook`."""
    reads: Reads = {}
    """Parameters that the hook reads; the first is passed to `before` wherever the caller puts it."""
    is_async: bool = False
    """Whether the function returns an awaitable, even if it is no coroutine function."""
    late: bool = False
    """Whether the SDK imports the module on first use."""
    with_: str = ""
    """Expected only if the class also has this name, because older versions lack both."""


_SYNC: Final = {"Sync": "Sync", "Async": "", "sync": "sync", "a": "", "io": "sync"}
_ASYNC: Final = {"Sync": "Async", "Async": "Async", "sync": "async", "a": "a", "io": "asyncio"}


def _both(
    attribute: str, targets: tuple[str, ...], make: Callable[..., Function], without: str, *, awaits: bool = False,
    **fields: Any,
) -> Iterator[Hook]:  # fmt: skip
    """Yield the hooks of a sync and an async class; `awaits`: the async function returns an awaitable."""
    for words in (_SYNC, _ASYNC):
        formatted, is_async = tuple(target.format(**words) for target in targets), awaits and words is _ASYNC
        yield Hook(attribute.format(**words), formatted, make, without.format(**words), is_async=is_async, **fields)


def _of_sdks(target: str) -> tuple[str, ...]:
    return tuple(f"{sdk}.{target}" for sdk in SDKS)


def _of_http(owner: str) -> tuple[str, ...]:
    return (f"httpx2:{owner}", f"httpx:{owner}")


_CHAT_HELPERS: Final = tuple(
    f"openai.lib.streaming.chat._completions:{name}" for name in ("ChatCompletionStream", "AsyncChatCompletionStream")
)
_RESPONSES_HELPERS: Final = tuple(
    f"openai.lib.streaming.responses._responses:{name}" for name in ("ResponseStream", "AsyncResponseStream")
)
_MESSAGES_HELPERS: Final = (
    *(f"anthropic.lib.streaming._messages:{name}" for name in ("MessageStream", "AsyncMessageStream")),
    *(f"anthropic.lib.streaming._beta_messages:{name}" for name in ("BetaMessageStream", "BetaAsyncMessageStream")),
)
_RUNNERS: Final = "anthropic.lib.tools._beta_runner"
_RESPONSES: Final = "openai.lib.responses_tool_runner"
_DECISIONS: Final = "openai.lib.decisions_tool_runner"
_TOOLSETS: Final = (
    "openai.lib.browser:BrowserToolset", "openai.lib.browser:AsyncBrowserToolset",
    "openai.lib.computer:ComputerToolset", "openai.lib.computer:AsyncComputerToolset",
)  # fmt: skip

HOOKS: Final[tuple[Hook, ...]] = (
    *_both(
        "request", _of_sdks("_base_client:{Sync}APIClient"), request.REQUEST.around, "all {sync} calls", awaits=True,
        reads={"options": 2, "stream": 4}, keep_while_streaming=False, in_code=True,
    ),
    *_both(
        "_process_response", _of_sdks("_base_client:{Sync}APIClient"), request.RESPONSE.around,
        "content of {sync} calls", reads={"response": 3},
    ),
    Hook(
        "_process_response_data", _of_sdks("_base_client:BaseClient"), observe_data,
        "content of streams; plain calls are read from their result", reads={"data": 1, "response": 3},
    ),
    Hook(
        "_build_request", _of_sdks("_base_client:BaseClient"), request.BUILD.around, "request bodies",
        reads={"options": 1},
    ),
    *_both(
        "__stream__", _of_sdks("_streaming:{Async}Stream"), streams.READER.around,
        "errors of {sync} streams; they end when closed or collected",
    ),
    Hook(
        "__stream__", (*_CHAT_HELPERS, *_RESPONSES_HELPERS, *_MESSAGES_HELPERS), streams.EVENTS.around,
        "errors of stream helpers: such calls end as closed", late=True,
    ),
    *(
        Hook(attribute, targets, streams.FINAL.around, f"what `{attribute}` raises", late=True)
        for attribute, targets in (
            ("get_final_completion", _CHAT_HELPERS), ("get_final_response", _RESPONSES_HELPERS),
            ("get_final_message", _MESSAGES_HELPERS),
        )
    ),
    *_both(
        "{a}close", _of_http("Response"), http_hooks.CLOSE.around,
        "early closes of {sync} streams; they end when collected", awaits=True,
    ),
    *_both(
        "{a}iter_bytes", _of_http("Response"), raw.BYTES.around, "content of {sync} streaming raw responses",
    ),
    *_both(
        "send", _of_http("{Async}Client"), http_hooks.SEND.around, "attempts of {sync} calls", awaits=True,
        reads={"request": 1},
    ),
    *_both(
        "handshake", ("websockets.{io}.client:ClientConnection",), websockets.observe_handshake,
        "{sync} calls over websockets", awaits=True, keep_while_streaming=False, late=True,
    ),
    *_both(
        "__run__", (f"{_RUNNERS}:Base{{Sync}}ToolRunner",), tool_loops.observe_loop,
        "agents and tools of {sync} tool runners", late=True,
    ),
    Hook(
        "_start_tool_runner_span", (f"{_RUNNERS}:BaseToolRunner",), tool_loops.observe_loop_span,
        "one span per loop of the anthropic SDK: there are two", late=True, with_="_tool_use_span",
    ),
    *(
        Hook(name, ("agents.tracing.provider:SynchronousMultiTracingProcessor",), make, loss, reads={of: 1}, late=True)
        for name, make, of, loss in (
            ("on_trace_start", openai_agents.TRACE_START.around, "trace", "runs of openai-agents as sessions"),
            ("on_span_start", openai_agents.SPAN_START.around, "span", "agents and tools of openai-agents"),
            ("on_span_end", openai_agents.END.around, "span", "ends of agents and tools of openai-agents"),
            ("on_trace_end", openai_agents.END.around, "trace", "ends of runs of openai-agents"),
        )
    ),
    Hook(
        "_tool_use_span", (f"{_RUNNERS}:BaseToolRunner",), tool_loops.observe_tool, "the tools of a runner",
        reads={"tool": 2, "tool_use": 3}, late=True, with_="_start_tool_runner_span",
    ),
    Hook(
        "_execute_function", (f"{_RESPONSES}:ResponsesToolRunner", f"{_RESPONSES}:AsyncResponsesToolRunner"),
        tool_loops.TOOL.around, "the tools of a runner", reads={"item": 2}, late=True,
    ),
    Hook(
        "_dispatch", _TOOLSETS, tool_loops.TOOL.around, "the browser and the computer of a runner", reads={"call": 1},
        late=True,
    ),
    # Public from here on.
    Hook(
        "iterate", (f"{_RESPONSES}:ResponsesToolRunner", f"{_RESPONSES}:AsyncResponsesToolRunner"),
        tool_loops.observe_loop, "agents and tools of Responses runners", late=True,
    ),
    Hook(
        "run", (f"{_DECISIONS}:DecisionsToolRunner", f"{_DECISIONS}:AsyncDecisionsToolRunner"), tool_loops.observe_run,
        "agents and tools of Decisions runners", late=True,
    ),
    # In openai 1.99 and later.
    Hook(
        "unwrap", ("openai.resources.webhooks:Webhooks", "openai.resources.webhooks:AsyncWebhooks"),
        other_requests.UNWRAP.around, "ends of background responses that webhooks report", late=True,
    ),
)  # fmt: skip


def sdks_of(value: object) -> tuple[Sdk, ...]:
    """Return the SDKs in an argument: one name, a comma list or a sequence. Raises SettingError for an unknown SDK."""
    try:
        return _SDK_NAMES(value)
    except InvalidValueError as error:
        raise SettingError(f"sdks={error.shown}: {error}") from None


class HookStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of one hook."""

    sdk: str
    """`openai`, `anthropic` or `groq`."""
    name: str
    """Class and method."""
    state: Literal["on", "missing", "changed"]
    """missing: the SDK has no function of this name; changed: the function lacks a parameter that is read, so that the
    hook passes everything through."""
    without: str
    """The loss without it."""


_Hooks: TypeAlias = Sequence[tuple[Hook, str]]
"""Hooks of one module, each with the name of its class, empty for functions."""


class _Patch(msgspec.Struct, eq=False):
    owner: Any
    """A class or module."""
    hook: Hook
    original: Any
    replacement: Any
    """The function that calls the hook; the original if the hook is in its code."""
    code: CodeHook | None = None
    sdks: set[str] = set()
    """The patched SDKs that use the function; empty if it was left in place and passes everything through."""

    def remove(self) -> bool:
        """Restore the original; return False if other code prevents that, so that the hook is still called."""
        if self.code is not None:
            return self.code.remove()
        is_in_place = vars(self.owner).get(self.hook.attribute) is self.replacement
        if is_in_place:
            setattr(self.owner, self.hook.attribute, self.original)
        return is_in_place


class Patches:
    """The patches of this process. Safe from any thread; never holds its lock while importing."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may read the hooks' status while its thread patches.
        self._lock = threading.RLock()
        self._patches: dict[tuple[type, str], _Patch] = {}
        """Applied patches by owner and name."""
        self._status: dict[str, list[HookStatus]] = {}
        """The hooks of each patched SDK."""
        self._wanted: set[str] = set()
        self._awaited: set[tuple[Sdk, str]] = set()
        """SDKs, each with a module whose past or future import patches it."""
        renew_locks(self, "_lock")

    @property
    def wanted(self) -> frozenset[str]:
        """The SDKs that are or will be patched."""
        return frozenset(self._wanted)

    def apply(self, sdk: Sdk) -> None:
        """Patch the SDK now if it is imported, else when it is imported."""
        self._wanted.add(sdk)
        self._await(sdk, f"{sdk}.{_ANCHOR}", self._imported)

    def _await(self, sdk: Sdk, module: str, imported: Callable[[Sdk, ModuleType], None]) -> None:
        """Call `imported` now if the module is imported, else when it is; after `undo`, only now."""
        if (sdk, module) not in self._awaited:
            self._awaited.add((sdk, module))
            wrapt.register_post_import_hook(partial(imported, sdk), module)
        elif (loaded_module := sys.modules.get(module)) is not None:
            imported(sdk, loaded_module)

    def undo(self, sdk: Sdk) -> None:
        """Restore every original of the SDK. Hooks that other code has wrapped meanwhile pass calls through.

        While calls or runs of openai-agents are in progress, all hooks except the entry point stay, to see their ends.
        They pass new calls through.
        """
        self._wanted.discard(sdk)
        with self._lock:
            under_way = HOOK_CONTEXT.deferred_ends.under_way or openai_agents.is_run_open()
            self._status.pop(sdk, None)
            for key, patch in reversed(list(self._patches.items())):
                patch.sdks.discard(sdk)
                if not (patch.sdks or (patch.hook.keep_while_streaming and under_way)) and patch.remove():
                    del self._patches[key]

    def status(self) -> list[HookStatus]:
        """Return every hook of every patched SDK."""
        with self._lock:
            return [status for statuses in self._status.values() for status in statuses]

    def _imported(self, sdk: Sdk, module: ModuleType) -> None:
        """Patch an SDK whose base client was imported: its modules and the HTTP libraries, each once it is imported."""
        del module
        if sdk not in self._wanted or sdk in self._status:
            return
        with _LOAD:
            # Now and not at the first call, which may happen in a thread while another one forks, or in a signal
            # handler that has interrupted the import.
            registry.load(PROFILES[sdk].wire)
            HOOK_CONTEXT.prepare()
        with fail_open(f"patch {sdk}"):
            by_module = _hooked(sdk)
            with self._lock:
                self._note_missing(sdk, by_module)
            for name, hooks in by_module.items():
                self._await(sdk, name, partial(self._part_imported, hooks))
            _warn_of_drift(sdk, self.status())
            for library in (sdk, "opentelemetry", "wrapt"):
                names.warn_once(library)

    def _note_missing(self, sdk: Sdk, by_module: Mapping[str, _Hooks]) -> None:
        """Note the hooks whose module this version of the SDK lacks: it would be imported by now."""
        self._status[sdk] = []
        for name, hooks in by_module.items():
            if name in sys.modules or name in PROFILES[sdk].http:
                continue
            for hook, owner in hooks:
                if not hook.late:
                    full_name = f"{name}.{owner}.{hook.attribute}"
                    status = HookStatus(sdk=sdk, name=full_name, state="missing", without=hook.without)
                    self._status[sdk].append(status)

    def _part_imported(self, hooks: _Hooks, sdk: Sdk, module: ModuleType) -> None:
        with fail_open(f"patch {module.__name__}"):
            with self._lock:
                if sdk not in self._status:
                    return
                self._patch(hooks, sdk, module)
            if any(hook.late for hook, _ in hooks):
                names.warn_once(module.__name__.partition(".")[0])

    def _patch(self, hooks: _Hooks, sdk: Sdk, module: ModuleType) -> None:
        statuses = self._status.setdefault(sdk, [])
        # One at a time: if classes share a function, the next row finds it hooked.
        for hook, owner in hooks:
            if not hook.with_ or hasattr(_owner(module, owner), hook.with_):
                statuses.append(self._one(sdk, hook, module, owner))

    def _one(self, sdk: Sdk, hook: Hook, module: ModuleType, owner_name: str) -> HookStatus:
        name = ".".join(filter(None, (module.__name__, owner_name, hook.attribute)))
        owner = _defining(_owner(module, owner_name), hook.attribute)
        original: Any = None if owner is None else vars(owner)[hook.attribute]
        if owner is None or not _is_method(original):
            return HookStatus(sdk=sdk, name=name, state="missing", without=hook.without)
        patch = self._put(owner, hook, original)
        patch.sdks.add(sdk)
        state: Literal["on", "changed"] = "changed" if _lacks(patch.original, hook) else "on"
        return HookStatus(sdk=sdk, name=name, state=state, without=hook.without)

    def _put(self, owner: type, hook: Hook, original: Any) -> _Patch:
        """Apply a hook unless it is in place: SDKs share the functions of an HTTP library."""
        function = innermost(original) if hook.in_code else None
        patch = self._patches.get((owner, hook.attribute))
        if patch is not None and (patch.sdks or patch.replacement is (original if function is None else function)):
            return patch
        if patch is not None and patch.code is None:
            # Code that was put over the earlier hook may still call it: without this, calls would be counted twice.
            covered = _callable(patch.original, owner)
            CodeHook(patch.replacement, lambda _: covered)
        make = partial(hook.make, reads=hook.reads, is_async=hook.is_async)
        if function is not None:
            code = CodeHook(function, make)
            patch = _Patch(owner, hook, code.original, function, code)
        else:
            patch = _Patch(owner, hook, original, make(_callable(original, owner)))
            setattr(owner, hook.attribute, patch.replacement)
        self._patches[owner, hook.attribute] = patch
        return patch


def _callable(original: Any, owner: type) -> Any:
    """Return a method to be called with its instance, which a wrapper of wrapt finds only as the class shows it."""
    # By name, because tracers have copies of wrapt.
    return original.__get__(None, owner) if hasattr(original, "_self_wrapper") else original


def _hooked(sdk: Sdk) -> Mapping[str, _Hooks]:
    """Return the hooks of an SDK and its libraries, each with the name of its class, by module."""
    hooks_by_module: dict[str, list[tuple[Hook, str]]] = {}
    libraries = {sdk, *PROFILES[sdk].http, *PROFILES[sdk].others}
    for hook in HOOKS:
        for target in hook.targets:
            module, _, owner = target.partition(":")
            if module.partition(".")[0] in libraries:
                hooks_by_module.setdefault(module, []).append((hook, owner))
    return hooks_by_module


def late_modules(sdk: Sdk) -> list[str]:
    """Return the modules with hooks of an SDK that it imports on first use."""
    return [module for module, hooks in _hooked(sdk).items() if any(hook.late for hook, _ in hooks)]


def _owner(module: ModuleType, name: str) -> Any:
    return getattr(module, name, None) if name else module


def _defining(owner: Any, attribute: str) -> Any:
    """Return the class or module whose own dictionary has the attribute, or None."""
    classes = owner.__mro__ if inspect.isclass(owner) else filter(inspect.ismodule, (owner,))
    return next((cls for cls in classes if attribute in vars(cls)), None)


def _is_method(attribute: object) -> bool:
    """Return whether a class attribute is a function that takes the instance."""
    return (
        callable(attribute)
        and hasattr(attribute, "__get__")
        and not isinstance(attribute, type | staticmethod | classmethod)
    )


def _lacks(original: Function, hook: Hook) -> bool:
    """Return whether a parameter that the hook reads is missing. Variadic functions may accept it."""
    parameters_by_name = parameters(original) if hook.reads else {}
    if not parameters_by_name or any(parameter.kind in VARIADIC for parameter in parameters_by_name.values()):
        return False
    return not parameters_by_name.keys() >= hook.reads.keys()


def _warn_of_drift(sdk: Sdk, statuses: list[HookStatus]) -> None:
    def named(state: str) -> str:
        return "; ".join(f"{s.name} ({s.without})" for s in statuses if s.sdk == sdk and s.state == state)

    if missing := named("missing"):
        log(logging.WARNING, "This version of %s lacks names callspan hooks; not recorded: %s", sdk, missing)
    if changed := named("changed"):
        log(logging.WARNING, "This version of %s has changed functions callspan hooks; may be lost: %s", sdk, changed)
