"""Other instrumentations: finds libraries that trace the same calls, and prevents the anthropic SDK's own span.

They wrap the SDKs' public methods or `request`. callspan's hooks are below, whatever the order of installation, so that
both see every call. Libraries that are installed but not imported are not reported.

The SDK creates its span in `request` if `options.span_name` is set, so the name is cleared for each call that callspan
records. Other spans of the SDK (tool runner, count_tokens) stay.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from callspan import private_names as names
from callspan.runtime.fail_open import log
from callspan.runtime.lock_free import Once

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
    ("opentelemetry.instrumentation.google_genai", "opentelemetry-instrumentation-google-genai"),
    ("openinference.instrumentation.google_genai", "openinference-instrumentation-google-genai"),
    ("opentelemetry.instrumentation.google_generativeai", "opentelemetry-instrumentation-google-generativeai"),
    ("opentelemetry.instrumentation.botocore", "opentelemetry-instrumentation-botocore"),
    ("opentelemetry.instrumentation.bedrock", "opentelemetry-instrumentation-bedrock"),
    ("openinference.instrumentation.bedrock", "openinference-instrumentation-bedrock"),
    ("opentelemetry.instrumentation.together", "opentelemetry-instrumentation-together"),
    ("opentelemetry.instrumentation.mistralai", "opentelemetry-instrumentation-mistralai"),
    ("openinference.instrumentation.mistralai", "openinference-instrumentation-mistralai"),
    ("opentelemetry.instrumentation.cohere", "opentelemetry-instrumentation-cohere"),
    ("opentelemetry.instrumentation.ollama", "opentelemetry-instrumentation-ollama"),
    ("langfuse.openai", "langfuse"),
    ("openlit.instrumentation.openai", "openlit"),
    ("openlit.instrumentation.anthropic", "openlit"),
    ("lmnr.opentelemetry_lib.opentelemetry.instrumentation.openai", "lmnr"),
    ("lmnr.opentelemetry_lib.opentelemetry.instrumentation.anthropic", "lmnr"),
    ("logfire._internal.integrations.llm_providers.llm_provider", "logfire"),
)
"""Their modules and distributions."""
MEANS: Final = (
    "instruments the same SDKs as callspan: the work is done twice, and a call has two spans if the other span is "
    "not current during the call, or none of callspan's if the other suppresses further instrumentation"
)
"""The consequence of their presence, for the warning."""
REMEDY: Final = "Turn one of them off, for example by OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"

_warned: Final = Once()


def active() -> list[str]:
    """Return the distributions that instrument the same SDKs and are imported in this process, sorted."""
    return sorted({name for module, name in _NAMES if module in sys.modules})


def warn_once() -> None:
    """Warn once about each other instrumentation in this process."""
    fresh = [name for name in active() if _warned.first(name)]
    if fresh:
        log(logging.WARNING, "%s %s. %s", " and ".join(fresh), MEANS, REMEDY)


def without_own_span(client: Any, options: Any) -> bool:
    """Prevent the SDK's own span for a call; return whether it would have sent `traceparent`."""
    setattr(options, names.SPAN_NAME.name, None)
    match getattr(client, names.OPEN_TELEMETRY.name, None):
        case {"propagation": True, "traces": {"enabled": True}}:
            return True
        case _:
            return False
