"""Other instrumentations: finds other libraries that create spans for the SDKs' calls in this process.

They wrap the SDKs' public methods; callspan's hooks are below, so both see every call. Libraries that are only
installed are not reported.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

from callspan import private_names as names
from callspan.fail_open import Once, fail_open, log

_LOOK: Final = fail_open("look for other instrumentations")

_METHODS: Final = (
    ("openai.resources.chat.completions", "Completions", "create"),
    ("openai.resources.chat.completions", "AsyncCompletions", "create"),
    ("openai.resources.responses", "Responses", "create"),
    ("openai.resources.embeddings", "Embeddings", "create"),
    ("openai._base_client", "SyncAPIClient", "request"),
    ("openai", "OpenAI", "request"),
    ("anthropic.resources.messages", "Messages", "create"),
    ("anthropic.resources.messages", "AsyncMessages", "create"),
    ("anthropic.resources.messages", "Messages", "stream"),
    ("anthropic._base_client", "SyncAPIClient", "request"),
)
"""Methods that instrumentations of autumn 2026 wrap."""
_NAMES: Final = (
    ("opentelemetry.instrumentation.genai.openai", "opentelemetry-instrumentation-genai-openai"),
    ("opentelemetry.instrumentation.genai.anthropic", "opentelemetry-instrumentation-genai-anthropic"),
    ("opentelemetry.instrumentation.openai_v2", "opentelemetry-instrumentation-openai-v2"),
    ("opentelemetry.instrumentation.openai", "opentelemetry-instrumentation-openai"),
    ("opentelemetry.instrumentation.anthropic", "opentelemetry-instrumentation-anthropic"),
    ("openinference.instrumentation.openai", "openinference-instrumentation-openai"),
    ("openinference.instrumentation.anthropic", "openinference-instrumentation-anthropic"),
)
"""Prefixes of module names; a longer one precedes its own prefix."""
DISTRIBUTIONS: Final = tuple(name for _, name in _NAMES)
"""Names of their packages, as in the warning."""
MEANS: Final = (
    "instruments the same SDKs as callspan: the work is done twice, and a call has two spans if the other span is "
    "not current during the call"
)
"""What their presence means, as in the warning."""
REMEDY: Final = "Turn one of them off, for example by OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"

_OWN: Final = ("callspan", "openai", "anthropic", "functools", "typing", "wrapt")
_warned: Final = Once()


def found() -> list[str]:
    """Return the distributions (or modules) that also wrap the SDKs in this process, sorted; empty if none does.

    Checks only imported modules; imports nothing.
    """
    names: set[str] = set()
    with _LOOK:
        for module, owner, method in _METHODS:
            function = getattr(getattr(sys.modules.get(module), owner, None), method, None)
            names.update(_named(layer) for layer in _foreign(_layers(function)))
    return sorted(names)


def warn_once(names: Iterable[str]) -> None:
    """Warn of each other instrumentation once per process."""
    fresh = [name for name in sorted(set(names)) if _warned.first(name)]
    if fresh:
        log(logging.WARNING, "%s %s. %s", " and ".join(fresh), MEANS, REMEDY)


def _layers(function: Any) -> Iterator[str]:  # noqa: ANN401 - whatever wraps a method
    """Yield the module of every wrapper around a function, outermost first."""
    for _ in range(16):
        if function is None:
            return
        wrapper = getattr(function, names.SELF_WRAPPER.name, None)
        for part in (wrapper, getattr(wrapper, "__func__", None), getattr(wrapper, "__self__", None)):
            module = getattr(part, "__module__", None) or getattr(type(part), "__module__", None)
            if isinstance(module, str):
                yield module
        code = getattr(function, "__code__", None)
        if wrapper is None and code is not None:
            yield str(getattr(function, "__globals__", {}).get("__name__", ""))
        function = getattr(function, "__wrapped__", None)


def _foreign(modules: Iterable[str]) -> Iterator[str]:
    for module in modules:
        if module and module.partition(".")[0] not in (*_OWN, "builtins"):
            yield module


def _named(module: str) -> str:
    return next((name for start, name in _NAMES if module.startswith(start)), module.partition(".")[0])
