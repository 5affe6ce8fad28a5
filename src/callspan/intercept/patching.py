"""Patching: applies the tables of hooks to SDKs and their libraries and removes them, with the status of each hook.

Each kind of place has a package with its table: SDKs generated alike, SDKs with a hook of their own, HTTP libraries. A
missing name costs only what its row states, never a call. Hooks are applied when an SDK is imported, before or after
`instrument()`, and each time that it is imported anew: callspan imports no SDK itself. A patch lives as long as its
function, so that the classes of a former import can be collected.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Final, Literal, TypeAlias, cast
from weakref import WeakSet, WeakValueDictionary

import msgspec

from callspan import private_names as names
from callspan.intercept.generated_sdks import openai_agents
from callspan.intercept.generated_sdks.table import HOOKS as GENERATED_HOOKS
from callspan.intercept.hook_rows import Hook
from callspan.intercept.hooked_sdks.table import HOOKS as OWN_HOOKS
from callspan.intercept.hooks import (
    HOOK_CONTEXT,
    CodeHook,
    Function,
    bound_like,
    innermost,
    parameter_names,
)
from callspan.intercept.http_libraries.table import HOOKS as HTTP_HOOKS
from callspan.intercept.http_libraries.table import LIBRARIES
from callspan.intercept.imports import WATCHED_IMPORTS
from callspan.intercept.websockets import HOOKS as SOCKET_HOOKS
from callspan.providers import registry
from callspan.runtime.fail_open import fail_open, log
from callspan.runtime.forks import renew_locks
from callspan.sdk_profiles import HTTP, PROFILES, Sdk, Source
from callspan.settings import InvalidValueError, SettingError, words_of

_SOURCES: Final = cast("Callable[[object], tuple[Source, ...]]", words_of(Source))
_LOAD: Final = fail_open("import the modules that calls need")
_PATCH: Final = "callspan_patch"
"""The attribute of a replacement with its patch."""
HOOKS: Final[tuple[Hook, ...]] = (*GENERATED_HOOKS, *OWN_HOOKS, *HTTP_HOOKS, *SOCKET_HOOKS)


def sources_of(value: object) -> tuple[Source, ...]:
    """Return the sources in an argument: a name, a comma list or a sequence. Raises SettingError for an unknown one."""
    try:
        return _SOURCES(value)
    except InvalidValueError as error:
        raise SettingError(f"sdks={error.safe_repr}: {error}") from None


class HookStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of one hook."""

    sdk: str
    """Its name in `sdks`, such as `openai`; `http` for the HTTP libraries."""
    name: str
    """Class and method."""
    state: Literal["on", "missing", "changed"]
    """missing: the SDK has no function of this name; changed: the function lacks a parameter that is read, so that the
    hook passes everything through."""
    without: str
    """The loss without it."""


_Hooks: TypeAlias = Sequence[tuple[Hook, str]]
"""Hooks of one module, each with the name of its class, empty for functions."""


class _Patch(msgspec.Struct, eq=False, weakref=True):
    """A hook in its place. The replacement has it as an attribute, which keeps it."""

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
            if is_removed := self.code.remove():
                del vars(self.replacement)[_PATCH]
            return is_removed
        is_in_place = vars(self.owner).get(self.hook.attribute) is self.replacement
        if is_in_place:
            setattr(self.owner, self.hook.attribute, self.original)
        return is_in_place


class Patches:
    """The patches of this process. Safe from any thread; never holds its lock while importing."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may read the hooks' status while its thread patches.
        self._lock = threading.RLock()
        self._patches: WeakValueDictionary[tuple[int, str], _Patch] = WeakValueDictionary()
        """Applied patches by the `id()` of their owner, which they keep, and by name."""
        self._owners: dict[str, WeakSet[Any]] = {}
        """The owners of each hook by its name: also of former imports, whose classes may be in use."""
        self._status: dict[str, dict[tuple[str, str], HookStatus]] = {}
        """The hooks of each patched SDK by name and loss: a module that is imported anew replaces those of the former
        one."""
        self._sdks: set[str] = set()
        self._awaited: set[tuple[Source, str]] = set()
        """SDKs, each with a module. The import of the module, past or future, patches the SDK."""
        renew_locks(self, "_lock")

    @property
    def sdks(self) -> frozenset[str]:
        """The sources that are or will be patched."""
        return frozenset(self._sdks)

    def apply(self, source: Source) -> None:
        """Patch an SDK, or the HTTP libraries, now if it is imported, else when it is imported."""
        self._sdks.add(source)
        if source != HTTP:
            self._await(source, PROFILES[source].anchor, self._imported)
        elif source not in self._status:
            self._status[source] = {}
            for library, hooks in _in_packages(LIBRARIES).items():
                self._await(source, library, partial(self._library_imported, hooks))

    def _await(self, sdk: Source, module: str, imported: Callable[[Any, ModuleType], None]) -> None:
        """Call `imported` now if the module is imported, and at each import from now on; after `undo`, only now."""
        if (sdk, module) not in self._awaited:
            self._awaited.add((sdk, module))
            WATCHED_IMPORTS.watch(module, partial(imported, sdk))
        elif (loaded_module := sys.modules.get(module)) is not None:
            imported(sdk, loaded_module)

    def undo(self, sdk: Source) -> None:
        """Restore every original of a source. Hooks that other code has wrapped meanwhile pass calls through.

        While calls or runs of openai-agents are in progress, all hooks except the entry point stay, to see their ends.
        They pass new calls through.
        """
        self._sdks.discard(sdk)
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
            return [status for statuses in self._status.values() for status in statuses.values()]

    def _imported(self, sdk: Sdk, module: ModuleType) -> None:
        """Patch an SDK, as its base client was imported: its modules and the HTTP libraries, once they are imported."""
        if sdk not in self._sdks:
            return
        if sdk in self._status:  # it is imported anew, as are its other modules
            self._part_imported(_hooked(sdk).get(module.__name__, ()), sdk, module)
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
            _warn_of_drift(sdk, [status for status in self.status() if status.sdk == sdk])
            for library in dict.fromkeys((sdk, *map(_library_of, by_module), "opentelemetry", "wrapt")):
                names.warn_once(library)

    def _note_missing(self, sdk: Sdk, by_module: Mapping[str, _Hooks]) -> None:
        """Note the hooks of modules that this version of the SDK lacks: they would be imported by now."""
        self._status[sdk] = {}
        for name, hooks in by_module.items():
            if name in sys.modules or name in PROFILES[sdk].http:
                continue
            for hook, owner in hooks:
                if not hook.late:
                    full_name = f"{name}.{owner}.{hook.attribute}"
                    status = HookStatus(sdk=sdk, name=full_name, state="missing", without=hook.without)
                    self._status[sdk][full_name, hook.without] = status

    def _library_imported(self, hooks: _Hooks, sdk: Source, module: ModuleType) -> None:
        """Patch an HTTP library for all code that uses it."""
        self._part_imported(hooks, sdk, module)
        library = module.__name__
        _warn_of_drift(
            library, [status for status in self.status() if status.sdk == sdk and status.name.startswith(f"{library}.")]
        )
        names.warn_once(_library_of(library))

    def _part_imported(self, hooks: _Hooks, sdk: Source, module: ModuleType) -> None:
        with fail_open(f"patch {module.__name__}"):
            with self._lock:
                if sdk not in self._status:
                    return
                self._patch(hooks, sdk, module)
            if any(hook.late for hook, _ in hooks):
                names.warn_once(_library_of(module.__name__))

    def _patch(self, hooks: _Hooks, sdk: Source, module: ModuleType) -> None:
        statuses = self._status.setdefault(sdk, {})
        # One at a time: if classes share a function, the next row finds it hooked.
        for hook, owner in hooks:
            if not hook.with_ or hasattr(_owner(module, owner), hook.with_):
                status = self._apply_hook(sdk, hook, module, owner)
                statuses[status.name, hook.without] = status

    def _apply_hook(self, sdk: Source, hook: Hook, module: ModuleType, owner_name: str) -> HookStatus:
        name = ".".join(filter(None, (module.__name__, owner_name, hook.attribute)))
        owner = _defining(_owner(module, owner_name), hook.attribute)
        original: Any = None if owner is None else vars(owner)[hook.attribute]
        if owner is None or not _is_method(original):
            return HookStatus(sdk=sdk, name=name, state="missing", without=hook.without)
        owners = self._owners.setdefault(name, WeakSet())
        for former in tuple(owners):
            if former is not owner and _is_method(attribute := vars(former).get(hook.attribute)):
                self._patch_of(former, hook, attribute).sdks.add(sdk)
        owners.add(owner)
        patch = self._patch_of(owner, hook, original)
        patch.sdks.add(sdk)
        state: Literal["on", "changed"] = "changed" if _lacks_parameters(_function(patch.original), hook) else "on"
        return HookStatus(sdk=sdk, name=name, state=state, without=hook.without)

    def _patch_of(self, owner: type, hook: Hook, original: Any) -> _Patch:
        """Apply a hook unless it is in place: SDKs share the functions of an HTTP library."""
        function = innermost(original) if hook.in_code else None
        patch = self._patches.get((id(owner), hook.attribute))
        if patch is not None and (patch.sdks or patch.replacement is (original if function is None else function)):
            return patch
        if patch is not None and patch.code is None:
            # Code that was put over the earlier hook may still call it: without this, calls would be counted twice.
            covered = _callable(_function(patch.original), owner)
            CodeHook(_function(patch.replacement), lambda _: covered)
        make = partial(hook.make, reads=hook.reads, is_async=hook.is_async)
        if function is not None:
            code = CodeHook(function, make)
            patch = _Patch(owner, hook, code.original, function, code)
        else:
            replacement: Any = make(_callable(_function(original), owner))
            if hook.is_public and inspect.iscoroutinefunction(original):
                replacement = bound_like(original, replacement)
            if isinstance(original, classmethod):
                replacement = classmethod(replacement)
            patch = _Patch(owner, hook, original, replacement)
            setattr(owner, hook.attribute, patch.replacement)
        vars(_function(patch.replacement))[_PATCH] = patch
        self._patches[id(owner), hook.attribute] = patch
        return patch


def _function(attribute: Any) -> Any:
    """Return an attribute of a class as a function, which a class method holds."""
    return attribute.__func__ if isinstance(attribute, classmethod) else attribute


def _callable(original: Any, owner: type) -> Any:
    """Return a method to be called with its instance, which a wrapper of wrapt finds only as the class shows it."""
    # By name, because tracers have copies of wrapt.
    return original.__get__(None, owner) if hasattr(original, "_self_wrapper") else original


def _hooked(sdk: Sdk) -> Mapping[str, _Hooks]:
    """Return the hooks of an SDK and its libraries, each with the name of its class, by module."""
    return _in_packages({sdk, *PROFILES[sdk].http, *PROFILES[sdk].other_packages})


def _in_packages(packages: Container[str]) -> Mapping[str, _Hooks]:
    hooks_by_module: dict[str, list[tuple[Hook, str]]] = {}
    for hook in HOOKS:
        for target in hook.targets:
            module, _, owner = target.partition(":")
            if module.partition(".")[0] in packages:
                hooks_by_module.setdefault(module, []).append((hook, owner))
    return hooks_by_module


def late_modules(sdk: Sdk) -> list[str]:
    """Return the modules with hooks of an SDK that it imports on first use."""
    return [module for module, hooks in _hooked(sdk).items() if any(hook.late for hook, _ in hooks)]


def _owner(module: ModuleType, name: str) -> Any:
    return getattr(module, name, None) if name else module


def _defining(owner: Any, attribute: str) -> Any:
    """Return the class or module with the attribute in its own dictionary, or None."""
    classes = owner.__mro__ if inspect.isclass(owner) else filter(inspect.ismodule, (owner,))
    return next((cls for cls in classes if attribute in vars(cls)), None)


def _is_method(attribute: object) -> bool:
    """Return whether a class attribute is a function that takes the instance or the class."""
    return isinstance(attribute, classmethod) or (
        callable(attribute) and hasattr(attribute, "__get__") and not isinstance(attribute, type | staticmethod)
    )


def _lacks_parameters(original: Function, hook: Hook) -> bool:
    """Return whether a parameter that the hook reads is missing. Variadic functions may accept it."""
    accepted, is_variadic = parameter_names(original) if hook.reads else ((), False)
    return bool(accepted) and not is_variadic and not {*accepted} >= hook.reads.keys()


def _library_of(module: str) -> str:
    return module.partition(".")[0]


def _warn_of_drift(package: str, statuses: list[HookStatus]) -> None:
    def names_in(state: str) -> str:
        return "; ".join(f"{status.name} ({status.without})" for status in statuses if status.state == state)

    if missing := names_in("missing"):
        log(logging.WARNING, "This version of %s lacks names callspan hooks; not recorded: %s", package, missing)
    if changed := names_in("changed"):
        log(
            logging.WARNING,
            "This version of %s has changed functions callspan hooks; may be lost: %s",
            package,
            changed,
        )
