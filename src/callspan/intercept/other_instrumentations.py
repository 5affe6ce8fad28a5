"""Other instrumentations: finds libraries that trace the SDKs' calls; avoids a second span of anthropic's own.

They wrap the SDKs' public methods; callspan's hooks are below, so both see every call. Libraries that are only
installed are not reported.

The SDK creates its span in `request` if `options.span_name` is set, with the client's tracer. `replace` clears the name
per call and sets on callspan's span what only the SDK's would contain; `keep` leaves it as a child of callspan's span.
Other spans of the SDK (tool runner, count_tokens) stay.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
from opentelemetry.trace import Tracer

from callspan import private_names as names
from callspan.fail_open import Once, fail_open, log, reported
from callspan.process.secrets import mask_text
from callspan.providers import rate_limits
from callspan.record.call import CallRecord, Http
from callspan.sdk_profiles import SDKS
from callspan.settings import Native

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
    ("groq.resources.chat.completions", "Completions", "create"),
    ("groq.resources.chat.completions", "AsyncCompletions", "create"),
    ("groq._base_client", "SyncAPIClient", "request"),
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
    ("opentelemetry.instrumentation.groq", "opentelemetry-instrumentation-groq"),
    ("openinference.instrumentation.groq", "openinference-instrumentation-groq"),
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

_OWN: Final = ("callspan", *SDKS, "functools", "typing", "wrapt")
_warned: Final = Once()
_PORTS: Final = {"https": 443, "http": 80}
_DECIDE: Final = fail_open("decide who makes the span of a call")


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


class SpanOwnership(NamedTuple):
    """How to observe one call together with the SDK's own tracing."""

    inject: bool
    """Whether callspan sends `traceparent`."""
    replaced: Http | None = None
    """What the SDK's span would begin with, if callspan's span replaces it."""


OWN_SPANS: Final = (SpanOwnership(inject=False), SpanOwnership(inject=True))
"""The arrangements of calls that have no span of the SDK, by whether callspan sends `traceparent`."""


def with_request(http: Http, call: CallRecord, request: Any) -> Http:  # noqa: ANN401 - httpx or httpx2
    """Return what is known of a call's exchange with the URL, without credentials and query, and betas of its request.

    The first request counts.
    """
    if http.path is not None:
        return http
    url = request.url
    path = url.raw_path.partition(b"?")[0].decode("ascii")
    # Mostly it is absent, and looking it up would raise and catch an exception in there.
    beta = request.headers["anthropic-beta"] if "anthropic-beta" in request.headers else ""  # noqa: SIM401
    is_route, port = path == http.route, url.port or _PORTS.get(url.scheme)
    is_base = (url.host, port) == (call.server_address, call.server_port)
    return msgspec.structs.replace(
        http,
        scheme=url.scheme,
        host=None if is_base else mask_text(url.netloc.decode("ascii")),
        path=path if is_route else mask_text(path),
        route=None if is_route else http.route,
        betas=list(_betas(beta)) if beta else [],
    )


@lru_cache
def _betas(header: str) -> list[str]:
    """Return the names in a header; cached, because a client mostly sends the same."""
    return [mask_text(name) for part in header.split(",") if (name := part.strip())]


def with_answer(http: Http, headers: Mapping[str, str]) -> Http:
    """Return what is known of an exchange with the headers that `relevant_headers` has returned."""
    return msgspec.structs.replace(
        http,
        organization_id=headers.get(rate_limits.ORGANIZATION, http.organization_id),
        workspace_id=headers.get(rate_limits.WORKSPACE, http.workspace_id),
    )


def decide_ownership(
    client: Any, options: Any, *, native: Native, propagate: bool,  # noqa: ANN401 - of either SDK
) -> SpanOwnership:  # fmt: skip
    """Decide who creates the span of a call that has one of the SDK; changes `options` if the SDK must not.

    Never raises.
    """
    ours = OWN_SPANS[propagate]
    try:
        tracer = getattr(client, names.TRACER.name, None)
        if not isinstance(tracer, Tracer):
            return ours
        settings = getattr(client, names.OPEN_TELEMETRY.name, None)
        settings = settings if isinstance(settings, dict) else {}
        propagates = bool(settings.get("propagation", False))
        if native == "replace":
            replaced = _replaced(settings, options)
            setattr(options, names.SPAN_NAME.name, None)
            return SpanOwnership(propagate or propagates, replaced)
        return SpanOwnership(propagate and not propagates)
    except reported(_DECIDE):
        return ours


def _replaced(settings: dict[str, Any], options: Any) -> Http:  # noqa: ANN401 - of the anthropic SDK
    """Return what the SDK's span would begin with, and ours takes from nowhere else."""
    route, conversation = getattr(options, names.SPAN_ROUTE.name, None), settings.get("conversation_id")
    return Http(
        route=route if isinstance(route, str) else None,
        conversation_id=mask_text(conversation) if isinstance(conversation, str) else None,
    )
