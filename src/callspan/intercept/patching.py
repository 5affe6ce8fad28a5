"""Patching: applies the table of hooks to an SDK, takes it back, and says what is on.

Applied when the SDK is imported, before or after `instrument()`: callspan imports no SDK by itself.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final, Literal, TypeAlias

import msgspec
import wrapt

from callspan.fail_open import fail_open
from callspan.forks import renew_locks
from callspan.intercept.captured import hand_over
from callspan.intercept.engine import Engine
from callspan.intercept.hooks import HOOKS, Hook
from callspan.intercept.watch import OBSERVED

Sdk: TypeAlias = Literal["openai", "anthropic"]
SDKS: Final[tuple[Sdk, ...]] = ("openai", "anthropic")

_LOGGER: Final = logging.getLogger("callspan")
_OLDER_HTTP: Final = "httpx"
_HTTP_LIBRARIES: Final = ("httpx2", _OLDER_HTTP)


class HookStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One hook as it stands."""

    sdk: str
    name: str
    state: Literal["on", "missing", "changed"]
    """missing: the SDK has no such name; changed: it has, with other parameters."""
    without: str


class _Patch(msgspec.Struct, frozen=True):
    owner: type
    attribute: str
    original: Any
    replacement: Any
    outlasts: bool = False


class Patches:
    """What is patched in this process. Safe from any thread; never holds its lock while importing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._applied: dict[str, list[_Patch]] = {}
        self._status: dict[str, list[HookStatus]] = {}
        self._left: dict[tuple[type, str], _Patch] = {}
        """What is still in place of SDKs that are not patched any more."""
        self._wanted: set[str] = set()
        self._waiting: set[str] = set()
        renew_locks(self, "_lock")

    @property
    def wanted(self) -> frozenset[str]:
        """The SDKs that are, or will be, patched."""
        return frozenset(self._wanted)

    def apply(self, sdk: Sdk) -> None:
        """Patch the SDK now if it is imported, else as soon as it is."""
        self._wanted.add(sdk)
        if sdk not in self._waiting:
            self._waiting.add(sdk)
            wrapt.register_post_import_hook(lambda _module: self._imported(sdk), f"{sdk}._base_client")
        elif f"{sdk}._base_client" in sys.modules:
            self._imported(sdk)

    def undo(self, sdk: Sdk) -> None:
        """Restore every original of the SDK; a name somebody else has wrapped since lets calls straight through.

        So does what tells the ends of streams, which stays where some are under way.
        """
        self._wanted.discard(sdk)
        with self._lock:
            under_way = self._engine.late_ends.under_way
            patches = self._applied.pop(sdk, [])
            self._status.pop(sdk, None)
            self._engine.missing -= {(of, name) for of, name in self._engine.missing if of == sdk}
            shared = {(p.owner, p.attribute) for others in self._applied.values() for p in others}
            for patch in reversed(patches):
                if (patch.owner, patch.attribute) in shared:
                    continue
                if patch.outlasts and under_way:
                    self._left[patch.owner, patch.attribute] = patch
                elif _own(patch.owner, patch.attribute) is patch.replacement:
                    setattr(patch.owner, patch.attribute, patch.original)
                    hand_over(patch.owner, patch.attribute, patch.replacement, patch.original)

    def status(self) -> list[HookStatus]:
        """Return every hook of every patched SDK."""
        with self._lock:
            return [status for statuses in self._status.values() for status in statuses]

    def _imported(self, sdk: Sdk) -> None:
        if sdk not in self._wanted:
            return
        with fail_open(f"patch {sdk}"):
            modules = _modules(sdk)
            with self._lock:
                if sdk in self._applied:
                    return
                self._patch(sdk, modules)
            _warn_of_missing(sdk, self.status())
        if _OLDER_HTTP not in self._waiting:
            self._waiting.add(_OLDER_HTTP)
            wrapt.register_post_import_hook(self._older_http_imported, _OLDER_HTTP)

    def _older_http_imported(self, module: ModuleType) -> None:
        """Openai 3 takes clients of the older library too, which may be imported after everything else."""
        with fail_open("patch httpx"), self._lock:
            for sdk in SDKS:
                patched = {patch.owner for patch in self._applied.get(sdk, ())}
                if sdk in self._applied and vars(module).get("Client") not in patched:
                    self._patch(sdk, {"http": (module,)})

    def _patch(self, sdk: Sdk, modules: dict[str, tuple[ModuleType, ...]]) -> None:
        found = [self._one(sdk, hook, module) for hook in HOOKS for module in modules.get(hook.module, ())]
        self._applied.setdefault(sdk, []).extend(patch for patch, _ in found if patch is not None)
        self._status.setdefault(sdk, []).extend(status for _, status in found)
        for _, status in found:
            if status.state != "on":
                self._engine.missing.add((sdk, status.name.rpartition(".")[2]))

    def _one(self, sdk: Sdk, hook: Hook, module: ModuleType) -> tuple[_Patch | None, HookStatus]:
        name = f"{module.__name__}.{hook.owner}.{hook.attribute}"
        owner = _defining(getattr(module, hook.owner, None), hook.attribute)
        original = None if owner is None else _own(owner, hook.attribute)
        shared = self._already(owner, hook.attribute)
        if shared is not None:
            return shared, HookStatus(sdk=sdk, name=name, state="on", without=hook.without)
        if owner is None or original is None:
            return None, HookStatus(sdk=sdk, name=name, state="missing", without=hook.without)
        if not _expected(original, hook.expects):
            return None, HookStatus(sdk=sdk, name=name, state="changed", without=hook.without)
        patch = self._left.pop((owner, hook.attribute), None)
        if patch is None or patch.replacement is not original:
            patch = _Patch(owner, hook.attribute, original, _replacement(hook, original, self._engine), hook.outlasts)
            setattr(owner, hook.attribute, patch.replacement)
            hand_over(owner, hook.attribute, original, patch.replacement)
        return patch, HookStatus(sdk=sdk, name=name, state="on", without=hook.without)

    def _already(self, owner: type | None, attribute: str) -> _Patch | None:
        """The HTTP library is shared by both SDKs: patched once, restored with the last."""
        every = (patch for patches in self._applied.values() for patch in patches)
        return next((p for p in every if p.owner is owner and p.attribute == attribute), None)


def _replacement(hook: Hook, original: Any, engine: Engine) -> Any:  # noqa: ANN401 - any callable
    if hook.wrapper is not None:
        return wrapt.FunctionWrapper(original, hook.wrapper(engine))
    if hook.plain is None:
        raise TypeError(f"hook {hook.attribute} has no replacement")
    replacement: Any = hook.plain(engine)(original)
    replacement.__wrapped__ = original
    setattr(replacement, OBSERVED, True)
    return replacement


def _modules(sdk: Sdk) -> dict[str, tuple[ModuleType, ...]]:
    base = importlib.import_module(f"{sdk}._base_client")
    return {
        "_base_client": (base,),
        "_streaming": (importlib.import_module(f"{sdk}._streaming"),),
        "http": tuple(_http_libraries(base)),
    }


def _http_libraries(base: ModuleType) -> Iterator[ModuleType]:
    """The HTTP library the SDK uses; openai 3 also takes clients of the older one, where that is installed."""
    used = next((getattr(base, name) for name in _HTTP_LIBRARIES if hasattr(base, name)), None)
    if used is not None:
        yield used
    older = sys.modules.get(_OLDER_HTTP)
    if older is not None and older is not used:
        yield older


def _defining(owner: Any, attribute: str) -> type | None:  # noqa: ANN401
    """The class in whose own dictionary the attribute lies."""
    classes = owner.__mro__ if inspect.isclass(owner) else ()
    return next((cls for cls in classes if attribute in vars(cls)), None)


def _own(owner: type, attribute: str) -> Any:  # noqa: ANN401
    return vars(owner).get(attribute)


def _expected(original: Any, names: tuple[str, ...]) -> bool:  # noqa: ANN401
    parameters = inspect.signature(original).parameters
    return all(name in parameters for name in names)


def _warn_of_missing(sdk: Sdk, statuses: list[HookStatus]) -> None:
    missing = [f"{s.name} ({s.without})" for s in statuses if s.sdk == sdk and s.state != "on"]
    if missing:
        _LOGGER.warning("This version of %s lacks names callspan hooks; not recorded: %s", sdk, "; ".join(missing))
