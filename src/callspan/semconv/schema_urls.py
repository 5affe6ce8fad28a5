"""Schema URLs: which state of the conventions the scopes of our spans, events and metrics name."""

from __future__ import annotations

from typing import Final

SPANS_AND_EVENTS: Final = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"
"""The development state that the GenAI conventions' own manifest states; they have no release."""
METRICS: Final = "https://opentelemetry.io/schemas/1.37.0"
"""Names and units of metrics are those of the newest released official instrumentation (1.3b0), which states this."""
