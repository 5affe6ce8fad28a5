"""What the others were measured to cost, in a run of their own: beside our figures for a sense of scale only."""

from __future__ import annotations

_INTRODUCTION = """## The others

Measured on 2026-11-20 **in another run, not side by side** with the tables above: added CPU of the calling thread, µs,
content capture on, openai 3.51.0 and anthropic 2.10.0. Newest releases of that day: official
opentelemetry-instrumentation-genai-openai and -anthropic 1.3b0, OpenInference openai 0.1.66 and anthropic 3.1.0,
OpenLLMetry 0.62.4, Logfire 5.4.0, Langfuse 5.0.4, the anthropic SDK's own tracing (native). Compare them with each
other and with the bare SDK of their run; for microseconds of ours against theirs the machine was not the same moment.
"""
_NAMES = ("bare", "official", "OpenInference", "OpenLLMetry", "Logfire", "Langfuse", "native", "raw span")
_ROWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("openai plain sync, per call", ("840", "242", "287", "416", "386", "194", "", "21")),
    ("openai plain async, per call", ("", "258", "252", "236", "399", "201", "", "21")),
    ("openai stream, per chunk", ("65", "27", "20", "20", "67", "3.6", "", "0.3")),
    ("anthropic plain sync, per call", ("320", "214", "250", "298", "338", "", "165", "21")),
    ("anthropic stream, per event", ("13", "16.8", "3.8", "3.1", "3.7", "", "1.7", "0.0")),
    ("KB per half-read stream", ("", "25", "22", "59", "17", "669", "", "")),
    ("import and instrument, ms", ("", "113", "109", "123", "9 (+400 elsewhere)", "333", "0", "")),
)


def section() -> str:
    """Return the section as markdown."""
    lines = [_INTRODUCTION, f"| | {' | '.join(_NAMES)} |", f"| --- |{' --- |' * len(_NAMES)}"]
    lines += [f"| {name} | {' | '.join(figures)} |" for name, figures in _ROWS]
    return "\n".join([*lines, ""])
