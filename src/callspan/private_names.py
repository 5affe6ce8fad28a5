"""Private names of the SDKs, their libraries and OpenTelemetry that callspan reads or sets; finds missing ones.

Hooked functions are listed in the tables of `intercept`. Each row states where the name is, the fallback without it,
and the loss. Names that the installed versions lack are logged once, and listed by `callspan doctor`.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any, Final, NamedTuple

from callspan.runtime.fail_open import log
from callspan.runtime.lock_free import Once
from callspan.sdk_profiles import GENERATED

RUNNER_PARAMS: Final = "_params"
"""The call parameters of anthropic's tool runner. Without it a loop has no name."""

MODULES: Final = (
    *(f"{profile.package}.{module}" for profile in GENERATED for module in ("_base_client", "_streaming")),
    "claude_agent_sdk._internal.transport.subprocess_cli",
    "openai._resource", "anthropic._models", "botocore.eventstream", "botocore.response",
    "httpx._client", "httpx2._client", "requests.models", "aiohttp.payload", "aiohttp.client_reqrep", "aiohttp.streams",
    "opentelemetry._logs", "opentelemetry.sdk._logs", "opentelemetry.metrics._internal",
    "opentelemetry.exporter.otlp.proto.http._log_exporter", "opentelemetry.exporter.otlp.proto.grpc._log_exporter",
)  # fmt: skip

_warned: Final = Once()


class PrivateName(NamedTuple):
    """One private name."""

    name: str
    where: tuple[str, ...]
    """Modules, or `module:Class` for attributes of classes and their instances; absent modules are skipped."""
    fallback: str
    """The behaviour without it."""
    lost: str = ""
    """The loss without it, for the warning; empty if nothing is lost."""
    with_: str = ""
    """A name without which this one is not expected either: older versions lack both."""


def _of_sdks(module: str, owner: str) -> tuple[str, ...]:
    return tuple(f"{profile.package}.{module}:{owner}" for profile in GENERATED)


RAW_STREAM: Final = PrivateName(
    "_raw_stream",
    (
        "openai.lib.streaming.chat._completions:ChatCompletionStream",
        "openai.lib.streaming.chat._completions:AsyncChatCompletionStream",
        "openai.lib.streaming.responses._responses:ResponseStream",
        "openai.lib.streaming.responses._responses:AsyncResponseStream",
    ),
    "the helper is treated as the stream", "errors that openai's stream helpers raise themselves",
)  # fmt: skip
BASE_URL: Final = PrivateName(
    "_base_url", _of_sdks("_base_client", "BaseClient"), "the public `base_url` is read, which costs more"
)
PROVIDER: Final = PrivateName(
    "_provider_runtime", ("openai:OpenAI", "openai:AsyncOpenAI"), "the host determines the provider",
    "the platform of clients made with `provider` whose base URL is that of a proxy", with_="_configure_provider",
)  # fmt: skip
RESOURCE_CLIENT: Final = PrivateName(
    "_client", ("openai._resource:SyncAPIResource", "openai._resource:AsyncAPIResource"),
    "webhooks are treated as those of openai itself",
)  # fmt: skip
SPAN_NAME: Final = PrivateName(
    "span_name", ("anthropic._models:FinalRequestOptions",), "the SDK's own span stays",
    "one span per call where the anthropic SDK traces itself: there are two", with_="span_route",
)  # fmt: skip
OPEN_TELEMETRY: Final = PrivateName(
    "_open_telemetry", ("anthropic._base_client:BaseClient",), "its default is assumed",
    "the propagation set for a client of the anthropic SDK", with_="_set_open_telemetry",
)  # fmt: skip
_BY_METHOD: Final = "attributes are set by the public method"
_BOUNDED: Final = ("opentelemetry.attributes:BoundedAttributes",)
ATTRIBUTES: Final = PrivateName("_attributes", ("opentelemetry.sdk.trace:ReadableSpan",), _BY_METHOD)
BOUNDED_DICT: Final = PrivateName("_dict", _BOUNDED, _BY_METHOD)
MAX_VALUE_LEN: Final = PrivateName("max_value_len", _BOUNDED, _BY_METHOD)
MAXLEN: Final = PrivateName("maxlen", _BOUNDED, _BY_METHOD)
_EVENT_BY_METHOD: Final = "events are added by the public method"
_SPAN: Final = ("opentelemetry.sdk.trace:Span",)
LIMITS: Final = PrivateName("_limits", _SPAN, _EVENT_BY_METHOD)
ADD_EVENT: Final = PrivateName("_add_event", _SPAN, _EVENT_BY_METHOD)
EVENT: Final = PrivateName("Event", ("opentelemetry.sdk.trace",), _EVENT_BY_METHOD)
SPAN_PROCESSOR: Final = PrivateName(
    "_active_span_processor", ("opentelemetry.sdk.trace:TracerProvider",),
    "its processors are assumed to run on the thread of the span",
)  # fmt: skip
PROCESSORS: Final = PrivateName(
    "_span_processors", ("opentelemetry.sdk.trace:SynchronousMultiSpanProcessor",),
    "the processor stays after `uninstrument()`, and does nothing",
)  # fmt: skip
PROCESSORS_LOCK: Final = PrivateName(
    "_lock", ("opentelemetry.sdk.trace:SynchronousMultiSpanProcessor",),
    "the processor stays after `uninstrument()`, and does nothing",
)  # fmt: skip
SET_TRACER_PROVIDER: Final = PrivateName(
    "_set_tracer_provider", ("opentelemetry.trace",), "a provider is watched only if it was set before `instrument()`",
    "agents' spans of a global provider that is set later",
)  # fmt: skip
CONVERSATION_ID_KEY: Final = PrivateName(
    "CONVERSATION_ID_KEY", ("opentelemetry.util.genai._conversation_context",),
    "the attributes of a span at its start name its conversation",
    "the conversation of agents whose spans state it only at their end: each turn is a session",
)  # fmt: skip
_LOOKED_UP: Final = "the meter provider is looked up on every call, which costs more"
_METRICS: Final = ("opentelemetry.metrics._internal",)
INTERNAL: Final = PrivateName("_internal", ("opentelemetry.metrics",), _LOOKED_UP)
METER_PROVIDER: Final = PrivateName("_METER_PROVIDER", _METRICS, _LOOKED_UP)
METERS_SHUT_DOWN: Final = PrivateName(
    "_shutdown", ("opentelemetry.sdk.metrics:MeterProvider",), "a provider that was shut down logs a warning"
)  # fmt: skip
PROXY_METER_PROVIDER: Final = PrivateName("_ProxyMeterProvider", _METRICS, "the placeholder is fed, which costs more")
EVENT_GENERATOR: Final = PrivateName(
    "_event_generator",
    ("botocore.eventstream:EventStream",),
    "its streams are not observed",
    "the ends of Bedrock's streams",
)
BODY_STREAM: Final = PrivateName(
    "_raw_stream", ("botocore.response:StreamingBody",), "only the body itself is observed",
    "the answers of models on Bedrock whose bodies another instrumentation replaces",
)  # fmt: skip
INNER_STREAM: Final = PrivateName(
    "_stream",
    tuple(f"{library}._client:Bound{kind}Stream" for library in ("httpx", "httpx2") for kind in ("Sync", "Async")),
    "raw bytes are not observed", "the ends of answers that other code reads as raw bytes",
)  # fmt: skip
CONSUMED: Final = PrivateName(
    "_content_consumed", ("requests.models:Response",), "each answer is treated as unread",
    "the content of answers that requests has read",
)  # fmt: skip
PAYLOAD_VALUE: Final = PrivateName(
    "_value", ("aiohttp.payload:Payload",), "bodies are treated as read while they are sent", "all calls by aiohttp"
)
READ_BODY: Final = PrivateName(
    "_body", ("aiohttp.client_reqrep:ClientResponse",), "each answer is treated as unread",
    "answers that a session has read",
)  # fmt: skip
STREAM_BUFFER: Final = PrivateName(
    "_buffer", ("aiohttp.streams:StreamReader",), "no answer is observed", "the content and ends of answers of aiohttp"
)
URI: Final = PrivateName(
    "uri", ("websockets.client:ClientProtocol",), "its name in websockets 13 is read", with_="process_response"
)
OLD_URI: Final = "wsuri"
_AGENTS: Final = ("claude_agent_sdk._internal.transport.subprocess_cli:SubprocessCLITransport",)
_NOT_RECEIVED: Final = "the program is started without callspan's variables"
AGENT_START: Final = PrivateName("connect", _AGENTS, _NOT_RECEIVED, "the calls of agents of claude_agent_sdk")
AGENT_OPTIONS: Final = PrivateName("_options", _AGENTS, _NOT_RECEIVED, "the calls of agents of claude_agent_sdk")
READ: Final = (
    RAW_STREAM, BASE_URL, PROVIDER, RESOURCE_CLIENT, SPAN_NAME, OPEN_TELEMETRY,
    ATTRIBUTES, BOUNDED_DICT, MAX_VALUE_LEN, MAXLEN, LIMITS, EVENT, ADD_EVENT,
    INTERNAL, INNER_STREAM, CONSUMED, PAYLOAD_VALUE, READ_BODY, STREAM_BUFFER, URI, EVENT_GENERATOR, BODY_STREAM,
    METER_PROVIDER, METERS_SHUT_DOWN, PROXY_METER_PROVIDER, AGENT_START, AGENT_OPTIONS, SPAN_PROCESSOR,
    PROCESSORS, PROCESSORS_LOCK, SET_TRACER_PROVIDER, CONVERSATION_ID_KEY,
)  # fmt: skip
"""Names that are read or set."""


def missing(library: str = "") -> list[tuple[str, PrivateName]]:
    """Return the missing private names of one library, or of all, each with its location."""
    expected = ((location, row) for row in READ for location in row.where if location.startswith(library))
    return [(location, row) for location, row in expected if _lacks(location, row)]


def warn_once(library: str) -> None:
    """Log the missing names of a library in one line, once per process."""
    new_entries = [entry for entry in missing(library) if _warned.first(entry)]
    if new_entries:
        names = "; ".join(
            f"{location}.{row.name} (lost: {row.lost or 'nothing'}; {row.fallback})" for location, row in new_entries
        )
        log(logging.WARNING, "This version of %s lacks names callspan uses: %s", library, names)


def _lacks(location: str, row: PrivateName) -> bool:
    module, _, name = location.partition(":")
    owner: Any = sys.modules.get(module)
    if owner is not None and name:
        owner = getattr(owner, name, None)
    if owner is None or (row.with_ and not _has(owner, row.with_)):
        return False
    return not _has(owner, row.name)


def _has(owner: Any, name: str) -> bool:
    if not inspect.isclass(owner):
        return hasattr(owner, name)
    return any(name in names for base in owner.__mro__ for names in _names(base))


def _names(base: type) -> Iterator[Any]:
    """Return the names that a class defines or declares, or that its methods read or set on an instance."""
    yield vars(base)
    declared = vars(base).get("__annotations__")
    yield declared if isinstance(declared, dict) else ()
    for function in vars(base).values():
        if isinstance(function, FunctionType):
            yield inspect.unwrap(function).__code__.co_names
