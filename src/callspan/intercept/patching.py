"""Patching: the table of hooks; applies them to an SDK, removes them, and reports the status of each hook.

The names, and what is lost without them, are in `private_names`. They exist in openai 1.40 to 3.x and anthropic 0.34
to 2.x; a missing one costs only what its row says, never a call.

Applied when the SDK is imported, before or after `instrument()`: callspan imports no SDK by itself.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any, Final, Literal, cast

import msgspec
import wrapt

from callspan import private_names as names
from callspan.fail_open import fail_open, log
from callspan.forks import renew_locks
from callspan.intercept import http_hooks, openai_agents, other_requests, raw, request, streams, tool_loops, websockets
from callspan.intercept.code_hooks import CodeHook, innermost
from callspan.intercept.hooks import VARIADIC, Function, HookContext, parameters
from callspan.private_names import PrivateName
from callspan.providers import registry
from callspan.sdk_profiles import PROFILES, Sdk
from callspan.settings import InvalidValueError, SettingError, words_of

_CAST: Final = ("cast_to", "stream_cls")
_PROCESSING: Final = (*_CAST, "options", "stream", "retries_taken")
_RETRIES: Final = "remaining_retries"
_CONNECTING: Final = ("extra_query", "extra_headers")
_HANDSHAKE: Final = ("additional_headers", "user_agent_header")
_SENDING: Final = ("stream", "auth", "follow_redirects")

_RESPONSES: Final = "openai.lib.responses_tool_runner"
_DECISIONS: Final = "openai.lib.decisions_tool_runner"
_ITERATING: Final = (
    "client", "params", "max_steps", "stream", "eager", "max_concurrent_calls", "on_event", "cancelled",
    "approve_safety_checks", "before_action", "ledger", "context_budget", "on_diagnostic", "approve_mcp",
    "before_early_call",
)  # fmt: skip

_SDK_NAMES: Final = cast("Callable[[object], tuple[Sdk, ...]]", words_of(Sdk))
_ANCHOR: Final = "_base_client"
"""The module of an SDK whose import shows that the SDK is used."""
_LOAD: Final = fail_open("import what calls will need")


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """One function and its replacement."""

    attribute: str
    where: tuple[str, ...]
    """Each `module:Class` that has it, of every SDK and HTTP library; `module`: a function of its own."""
    make: Callable[[HookContext, Function], Function]
    """Creates the replacement of the original; see `guarded`."""
    keep_while_streaming: bool = True
    """Left in place when callspan is switched off, for the calls in progress."""
    in_code: bool = False
    """Put into the function, which other libraries wrap, and not in its place; see `code_hooks`."""
    reads: tuple[str, ...] = ()
    """Parameters the hook reads."""
    ignores: tuple[str, ...] = ()
    """Other known parameters of the original; any further one is reported as changed."""
    late: bool = False
    """The module is imported when it is used first, if ever."""
    with_: str = ""
    """Expected only where the class has this name too: older versions lack both."""
    without: str
    """What is lost if the name is missing."""


def _hook(
    name: PrivateName, make: Callable[[HookContext, Function], Function], *, reads: tuple[str, ...] = (),
    ignores: tuple[str, ...] = (), keep_while_streaming: bool = True, in_code: bool = False, late: bool = False,
) -> Hook:  # fmt: skip
    return Hook(
        attribute=name.name, where=name.where, make=make, reads=reads, ignores=ignores,
        keep_while_streaming=keep_while_streaming, in_code=in_code, late=late, with_=name.with_,
        without=name.lost,
    )  # fmt: skip


HOOKS: Final[tuple[Hook, ...]] = (
    _hook(
        names.REQUEST, request.observe_request, reads=("options", "stream"), ignores=(*_CAST, _RETRIES),
        keep_while_streaming=False, in_code=True,
    ),
    _hook(
        names.ASYNC_REQUEST, partial(request.observe_request, is_async=True), reads=("options", "stream"),
        ignores=(*_CAST, _RETRIES), keep_while_streaming=False, in_code=True,
    ),
    _hook(names.PROCESS_RESPONSE, request.observe_response, reads=("response",), ignores=_PROCESSING),
    _hook(names.ASYNC_PROCESS_RESPONSE, request.observe_response, reads=("response",), ignores=_PROCESSING),
    _hook(names.PROCESS_RESPONSE_DATA, request.observe_data, reads=("data", "response"), ignores=("cast_to",)),
    _hook(names.BUILD_REQUEST, request.observe_build, reads=("options",), ignores=("retries_taken",)),
    _hook(names.RETRY_TIMEOUT, request.observe_wait, ignores=(_RETRIES, "options", "response_headers")),
    _hook(names.STREAM, streams.observe_reader),
    _hook(names.ASYNC_STREAM, streams.observe_reader),
    _hook(names.HELPER_STREAM, streams.observe_events, late=True),
    *(
        Hook(
            attribute=attribute, where=tuple(place for place in names.HELPERS if part in place),
            make=streams.observe_final, late=True, without=f"what `{attribute}` raises",
        )
        for attribute, part in (
            ("get_final_completion", "ChatCompletionStream"), ("get_final_response", "ResponseStream"),
            ("get_final_message", "MessageStream"),
        )
    ),
    _hook(names.CLOSE, http_hooks.observe_close),
    _hook(names.ACLOSE, partial(http_hooks.observe_close, is_async=True)),
    _hook(names.ITER_BYTES, raw.observe_bytes, ignores=("chunk_size",)),
    _hook(names.AITER_BYTES, raw.observe_bytes, ignores=("chunk_size",)),
    _hook(names.SEND, http_hooks.observe_send, reads=("request",), ignores=_SENDING),
    _hook(names.ASYNC_SEND, partial(http_hooks.observe_send, is_async=True), reads=("request",), ignores=_SENDING),
    _hook(
        names.HANDSHAKE, websockets.observe_handshake, ignores=(*_HANDSHAKE, "timeout"), keep_while_streaming=False,
        late=True,
    ),
    _hook(
        names.ASYNC_HANDSHAKE, partial(websockets.observe_handshake, is_async=True), ignores=_HANDSHAKE,
        keep_while_streaming=False, late=True,
    ),
    _hook(
        names.CONNECT_WS, websockets.observe_connect, ignores=_CONNECTING, keep_while_streaming=False, late=True
    ),
    _hook(
        names.ASYNC_CONNECT_WS, partial(websockets.observe_connect, is_async=True), ignores=_CONNECTING,
        keep_while_streaming=False, late=True,
    ),
    _hook(names.RUN_LOOP, tool_loops.observe_loop, late=True),
    _hook(names.ASYNC_RUN_LOOP, tool_loops.observe_loop, late=True),
    _hook(names.LOOP_SPAN, tool_loops.observe_loop_span, ignores=("client",), late=True),
    _hook(
        names.TOOL_SPAN, tool_loops.observe_tool_span, reads=("tool", "tool_use"), ignores=("client",), late=True
    ),
    _hook(names.EXECUTE_FUNCTION, tool_loops.observe_function, reads=("item",), ignores=("run",), late=True),
    Hook(
        # Public, as the next one.
        attribute="iterate",
        where=(f"{_RESPONSES}:ResponsesToolRunner", f"{_RESPONSES}:AsyncResponsesToolRunner"),
        make=tool_loops.observe_loop, ignores=_ITERATING, late=True, without="agents and tools of Responses runners",
    ),
    Hook(
        attribute="run", where=(f"{_DECISIONS}:DecisionsToolRunner", f"{_DECISIONS}:AsyncDecisionsToolRunner"),
        make=tool_loops.observe_run, ignores=_ITERATING, late=True, without="agents and tools of Decisions runners",
    ),
    *(
        _hook(name, make, reads=(of,), late=True)
        for name, make, of in (
            (names.AGENTS_TRACE_START, openai_agents.observe_trace_start, "trace"),
            (names.AGENTS_SPAN_START, openai_agents.observe_span_start, "span"),
            (names.AGENTS_SPAN_END, openai_agents.observe_end, "span"),
            (names.AGENTS_TRACE_END, openai_agents.observe_end, "trace"),
        )
    ),
    Hook(
        # Public, in openai 1.99 and later.
        attribute="unwrap",
        where=("openai.resources.webhooks:Webhooks", "openai.resources.webhooks:AsyncWebhooks"),
        make=other_requests.observe_unwrap, ignores=("payload", "headers", "secret"), late=True,
        without="ends of background responses that webhooks report",
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
    """missing: the SDK has no such name, or it is no function there; changed: it has unknown parameters, or lacks one
    that is read: it is hooked, and passes everything through."""
    without: str
    """What callspan loses without it."""


class _Patch(msgspec.Struct, frozen=True):
    owner: Any
    """A class, or a module."""
    attribute: str
    original: Any
    replacement: Any
    """What calls the hook; the function itself if its code does."""
    keep_while_streaming: bool = False
    code: CodeHook | None = None

    def remove(self) -> bool:
        """Restore the original; False if the function cannot be restored now, and still calls the hook."""
        if self.code is not None:
            return self.code.remove()
        if _own(self.owner, self.attribute) is self.replacement:
            setattr(self.owner, self.attribute, self.original)
        return True


class Patches:
    """The patches of this process. Safe from any thread; never holds its lock while importing."""

    def __init__(self, hook_context: HookContext) -> None:
        self._hook_context = hook_context
        # Reentrant: a signal handler may read the hooks' status while its thread patches.
        self._lock = threading.RLock()
        self._applied: dict[str, list[_Patch]] = {}
        self._status: dict[str, list[HookStatus]] = {}
        self._left: dict[tuple[type, str], _Patch] = {}
        """Patches still in place of SDKs that are no longer patched."""
        self._wanted: set[str] = set()
        self._awaited: set[tuple[Sdk, str]] = set()
        """SDKs and the modules whose import, past or coming, patches them."""
        renew_locks(self, "_lock")

    @property
    def wanted(self) -> frozenset[str]:
        """The SDKs that are, or will be, patched."""
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
        elif (found := sys.modules.get(module)) is not None:
            imported(sdk, found)

    def undo(self, sdk: Sdk) -> None:
        """Restore every original of the SDK; hooks that other code has wrapped in between pass calls through.

        If calls are in progress, all hooks except the entry point stay and pass new calls through.
        """
        self._wanted.discard(sdk)
        with self._lock:
            under_way = self._hook_context.deferred_ends.under_way
            patches = self._applied.pop(sdk, [])
            self._status.pop(sdk, None)
            shared = {(p.owner, p.attribute) for others in self._applied.values() for p in others}
            for patch in reversed(patches):
                if (patch.owner, patch.attribute) in shared:
                    continue
                if (patch.keep_while_streaming and under_way) or not patch.remove():
                    self._left[patch.owner, patch.attribute] = patch

    def status(self) -> list[HookStatus]:
        """Return every hook of every patched SDK."""
        with self._lock:
            return [status for statuses in self._status.values() for status in statuses]

    def _imported(self, sdk: Sdk, module: ModuleType) -> None:
        """Patch an SDK whose base client is imported: its modules, and the HTTP libraries, each when it is imported."""
        del module
        if sdk not in self._wanted or sdk in self._applied:
            return
        with _LOAD:
            # Now and not at the first call, which may happen in a thread while another one forks, or in a signal
            # handler that has interrupted the import.
            registry.load(PROFILES[sdk].wire)
            self._hook_context.prepare()
        with fail_open(f"patch {sdk}"):
            with self._lock:
                self._note_missing(sdk)
            for name in _modules(sdk):
                self._await(sdk, name, self._part_imported)
            _warn_of_drift(sdk, self.status())
            for library in (sdk, "opentelemetry", "wrapt"):
                names.warn_once(library)

    def _note_missing(self, sdk: Sdk) -> None:
        """Note the hooks whose module this version of the SDK does not have: it would be imported by now."""
        self._applied[sdk] = []
        self._status[sdk] = []
        for hook in HOOKS:
            for name, owner in _places(sdk, hook):
                if not hook.late and name not in sys.modules and name not in PROFILES[sdk].http:
                    full_name = f"{name}.{owner}.{hook.attribute}"
                    status = HookStatus(sdk=sdk, name=full_name, state="missing", without=hook.without)
                    self._status[sdk].append(status)

    def _part_imported(self, sdk: Sdk, module: ModuleType) -> None:
        with fail_open(f"patch {module.__name__}"):
            with self._lock:
                if sdk not in self._applied:
                    return
                self._patch(sdk, module)
            if module.__name__ in late_modules(sdk):
                names.warn_once(module.__name__.partition(".")[0])

    def _patch(self, sdk: Sdk, module: ModuleType) -> None:
        applied = self._applied.setdefault(sdk, [])
        for hook in HOOKS:
            for name, owner in _places(sdk, hook):
                # One at a time: if classes share a function, the next row finds it hooked.
                if name == module.__name__:
                    if hook.with_ and not hasattr(_owner(module, owner), hook.with_):
                        continue
                    patch, status = self._one(sdk, hook, module, owner)
                    applied.extend([] if patch is None or patch in applied else [patch])
                    self._status.setdefault(sdk, []).append(status)

    def _one(self, sdk: Sdk, hook: Hook, module: ModuleType, owner_name: str) -> tuple[_Patch | None, HookStatus]:
        name = ".".join(filter(None, (module.__name__, owner_name, hook.attribute)))
        owner = _defining(_owner(module, owner_name), hook.attribute)
        original: Any = None if owner is None else _own(owner, hook.attribute)
        shared = self._already(owner, hook.attribute)
        if shared is not None:
            original = shared.original
        if owner is None or not _is_method(original):
            return None, HookStatus(sdk=sdk, name=name, state="missing", without=hook.without)
        patch = shared or self._put(owner, hook, original)
        state: Literal["on", "changed"] = "on" if _is_known(original, hook) else "changed"
        return patch, HookStatus(sdk=sdk, name=name, state=state, without=hook.without)

    def _put(self, owner: type, hook: Hook, original: Any) -> _Patch:  # noqa: ANN401 - any function
        function = innermost(original) if hook.in_code else None
        patch = self._left.pop((owner, hook.attribute), None)
        if patch is not None and patch.replacement is (original if function is None else function):
            return patch
        make = partial(hook.make, self._hook_context)
        if function is not None:
            code = CodeHook(function, make)
            return _Patch(owner, hook.attribute, code.original, function, hook.keep_while_streaming, code)
        replacement = make(original)
        setattr(owner, hook.attribute, replacement)
        return _Patch(owner, hook.attribute, original, replacement, hook.keep_while_streaming)

    def _already(self, owner: type | None, attribute: str) -> _Patch | None:
        """Return the applied patch of a function both SDKs share (of the HTTP library); None: not patched."""
        every = (patch for patches in self._applied.values() for patch in patches)
        return next((p for p in every if p.owner is owner and p.attribute == attribute), None)


def _places(sdk: Sdk, hook: Hook) -> Iterator[tuple[str, str]]:
    """Yield the module and class of each place where the SDK, or an HTTP library of it, has the hooked function."""
    for place in hook.where:
        module, _, owner = place.partition(":")
        if module.partition(".")[0] in (sdk, *PROFILES[sdk].http, *PROFILES[sdk].others):
            yield module, owner


def _modules(sdk: Sdk) -> list[str]:
    return list(dict.fromkeys(module for hook in HOOKS for module, _ in _places(sdk, hook)))


def late_modules(sdk: Sdk) -> list[str]:
    """Return the modules that have hooks of an SDK and are imported when they are used first, if ever."""
    return list(dict.fromkeys(module for hook in HOOKS if hook.late for module, _ in _places(sdk, hook)))


def _owner(module: ModuleType, name: str) -> Any:  # noqa: ANN401 - a class, the module itself, or None
    return getattr(module, name, None) if name else module


def _defining(owner: Any, attribute: str) -> Any:  # noqa: ANN401
    """Return the class, or the module, whose own dictionary has the attribute; None: it has none."""
    classes = owner.__mro__ if inspect.isclass(owner) else filter(inspect.ismodule, (owner,))
    return next((cls for cls in classes if attribute in vars(cls)), None)


def _own(owner: type, attribute: str) -> Any:  # noqa: ANN401
    return vars(owner).get(attribute)


def _is_method(found: object) -> bool:
    """Return whether a class attribute is a function that takes the instance."""
    return callable(found) and hasattr(found, "__get__") and not isinstance(found, type | staticmethod | classmethod)


def _is_known(original: Function, hook: Hook) -> bool:
    known = {*hook.reads, *hook.ignores}
    named = [name for name, parameter in parameters(original).items() if parameter.kind not in VARIADIC][1:]
    return not _lacks(original, hook) and known.issuperset(named)


def _lacks(original: Function, hook: Hook) -> bool:
    """Return whether a parameter that the hook reads is missing; a function with variadic parameters may have it."""
    found = parameters(original)
    if not found or any(parameter.kind in VARIADIC for parameter in found.values()):
        return False
    return not found.keys() >= set(hook.reads)


def _warn_of_drift(sdk: Sdk, statuses: list[HookStatus]) -> None:
    def named(state: str) -> str:
        return "; ".join(f"{s.name} ({s.without})" for s in statuses if s.sdk == sdk and s.state == state)

    if missing := named("missing"):
        log(logging.WARNING, "This version of %s lacks names callspan hooks; not recorded: %s", sdk, missing)
    if changed := named("changed"):
        log(logging.WARNING, "This version of %s has changed functions callspan hooks; may be lost: %s", sdk, changed)
