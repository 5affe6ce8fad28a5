"""Usage of Ollama: the counters of the last line of an answer.

`prompt_eval_count` is absent, or 0 beside an answer, if the server had the whole prompt in its cache: the input is then
unknown, not 0.
"""

from __future__ import annotations

from typing import Final

from callspan.providers.wire_json import count
from callspan.record.usage import Usage

_INPUT: Final = "prompt_eval_count"
_OUTPUT: Final = "eval_count"
_COUNTERS: Final = (
    _INPUT, _OUTPUT, "total_duration", "load_duration", "prompt_eval_duration", "eval_duration",
)  # fmt: skip
"""Fields of an answer about its work; durations are in nanoseconds."""


def usage(body: object) -> Usage | None:
    """Return the counters of an answer; None if it has none."""
    total_input, output = count(body, _INPUT), count(body, _OUTPUT)
    if not isinstance(body, dict) or (total_input is None and output is None):
        return None
    if output and not total_input:
        total_input = None
    return Usage(
        input_tokens=total_input,
        output_tokens=output,
        total_tokens=None if total_input is None or output is None else total_input + output,
        raw={name: number for name in _COUNTERS if (number := count(body, name)) is not None},
    )
