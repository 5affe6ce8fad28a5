"""The names of metrics and of the attributes that only metrics have, and the conventions' buckets."""

from __future__ import annotations

import re
from typing import Final

DURATION: Final = "gen_ai.client.operation.duration"
TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - no secret
TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
TIME_PER_CHUNK: Final = "gen_ai.client.operation.time_per_output_chunk"
IN_FLIGHT: Final = "callspan.client.in_flight"
RETRIES: Final = "callspan.client.retries"
RATE_LIMITED: Final = "callspan.client.rate_limit.hits"
ERRORS: Final = "callspan.client.errors"
REMAINING: Final = "callspan.client.rate_limit.remaining"
LIMIT: Final = "callspan.client.rate_limit.limit"
COST: Final = "callspan.client.cost"
RECORDS_WRITTEN: Final = "callspan.records.written"
RECORDS_DROPPED: Final = "callspan.records.dropped"
RECORDS_WAITING: Final = "callspan.records.oldest_waiting"
TOOL_DURATION: Final = "callspan.agent.tool.duration"
TIMESTEP_DURATION: Final = "callspan.agent.timestep.duration"

TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - no secret
RATE_LIMIT_UNIT: Final = "callspan.rate_limit.unit"
COST_SOURCE: Final = "callspan.cost.source"
"""`provider`: the provider's own word; `computed`: from prices."""
STATED: Final = "provider"
COMPUTED: Final = "computed"
COST_ESTIMATED: Final = "callspan.cost.estimated"
STORE: Final = "callspan.store"
"""The store's name, without any password."""
DROP_REASON: Final = "callspan.drop.reason"
TOOL_NAME: Final = "gen_ai.tool.name"
SUCCESS: Final = "callspan.success"
RATE_LIMIT_UNITS: Final = ("requests", "tokens", "input_tokens", "output_tokens")
OTHER: Final = "_OTHER"
"""The conventions' word for a value that is not told apart."""

DURATION_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
"""Seconds: 0.01, doubled until 81.92."""
TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
"""Tokens: 1, times four until 67108864."""

COST_BUCKETS: Final = tuple(0.00001 * 4**power for power in range(13))
"""US dollars: 0.00001, times four until 167.77216."""

_WORD: Final = re.compile(r"[A-Za-z_.\-]{1,64}[0-9]{0,3}|[0-9]{3}")


def bounded_type(error_type: str) -> str:
    """Return an `error.type` that is a word or a status, as the providers' codes are; else `_OTHER`."""
    return error_type if _WORD.fullmatch(error_type) else OTHER
