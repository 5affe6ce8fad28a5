"""Other instrumentations: finds other libraries that make spans of the SDKs' calls in this process.

Other instrumentations replace the SDKs' public methods by wrappers; ours sit below them, so that both see every
call. One that is only installed is not reported.
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
"""Where the instrumentations of autumn 2026 wrap."""
_NAMES: Final = (
    ("opentelemetry.instrumentation.genai.openai", "opentelemetry-instrumentation-genai-openai"),
    ("opentelemetry.instrumentation.genai.anthropic", "opentelemetry-instrumentation-genai-anthropic"),
    ("opentelemetry.instrumentation.openai_v2", "opentelemetry-instrumentation-openai-v2"),
    ("opentelemetry.instrumentation.openai", "opentelemetry-instrumentation-openai"),
    ("opentelemetry.instrumentation.anthropic", "opentelemetry-instrumentation-anthropic"),
    ("openinference.instrumentation.openai", "openinference-instrumentation-openai"),
    ("openinference.instrumentation.anthropic", "openinference-instrumentation-anthropic"),
)
"""Beginnings of module names, the longer first where one begins another."""
DISTRIBUTIONS: Final = tuple(name for _, name in _NAMES)
"""What the packages of these are called, as in the warning."""
MEANS: Final = (
    "instruments the same SDKs as callspan: the work is done twice, and a call has two spans if the other span is "
    "not current during the call"
)
"""What is wrong with the named packages, as the warning says it."""
REMEDY: Final = "Turn one of them off, for example by OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"

_OWN: Final = ("callspan", "openai", "anthropic", "functools", "typing", "wrapt")
_warned: Final = Once()


def found() -> list[str]:
    """Return the distributions (or modules) that wrap the SDKs in this process too; empty where none does.

    Only what is imported is looked at; imports nothing. Sorted.
    """
    names: set[str] = set()
    with _LOOK:
        for module, owner, method in _METHODS:
            function = getattr(getattr(sys.modules.get(module), owner, None), method, None)
            names.update(_named(layer) for layer in _foreign(_layers(function)))
    return sorted(names)


def warn_once(names: Iterable[str]) -> None:
    """Warn of those that were not warned of before in this process."""
    fresh = [name for name in sorted(set(names)) if _warned.first(name)]
    if fresh:
        log(logging.WARNING, "%s %s. %s", " and ".join(fresh), MEANS, REMEDY)


def _layers(function: Any) -> Iterator[str]:  # noqa: ANN401 - whatever wraps a method
    """The module of every wrapper around a function, outermost first."""
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
