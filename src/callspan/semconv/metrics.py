"""The metrics: a table of instruments, the attributes that only metrics have, and histogram buckets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

from callspan.semconv.call import ERROR_KIND, ERROR_RETRYABLE, OUTCOME, STREAM_END
from callspan.semconv.gen_ai import (
    ERROR_TYPE,
    OPERATION_NAME,
    PROVIDER_NAME,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    SERVER_ADDRESS,
    SERVER_PORT,
)
from callspan.semconv.table import BOOLEAN, STRING, Row, SetByCode

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.37.0"
"""The schema of the newest official instrumentation (1.3b0), whose names and units are used."""
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - no secret
RATE_LIMIT_UNIT: Final = "callspan.rate_limit.unit"
COST_SOURCE: Final = "callspan.cost.source"
COST_ESTIMATED: Final = "callspan.cost.estimated"
STORE: Final = "callspan.store"
DROP_REASON: Final = "callspan.drop.reason"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
AGENT_NAME: Final = "gen_ai.agent.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
SUCCESS: Final = "callspan.success"

FUNCTION: Final = "function"
FROM_PROVIDER: Final = "provider"
COMPUTED: Final = "computed"
RATE_LIMIT_UNITS: Final = ("requests", "tokens", "input_tokens", "output_tokens")
OTHER: Final = "_OTHER"
"""The conventions' value for everything not listed individually."""

_WORD: Final = re.compile(r"[A-Za-z_.\-]{1,64}[0-9]{0,3}|[0-9]{3}")

ATTRIBUTES: Final = (
    Row(TOKEN_TYPE, STRING, SetByCode("computed"), "`input` or `output`."),
    Row(RATE_LIMIT_UNIT, STRING, SetByCode("`rate_limits`"), "`requests`, `tokens`, `input_tokens`, `output_tokens`."),
    Row(
        COST_SOURCE, STRING, SetByCode("`cost.source`"),
        f"`{FROM_PROVIDER}`: stated by the provider; `{COMPUTED}`: computed from prices.",
    ),
    Row(COST_ESTIMATED, BOOLEAN, SetByCode("`cost.estimated`"), "Whether the cost is an estimate."),
    Row(STORE, STRING, SetByCode("the store"), "The store's name, without any password."),
    Row(DROP_REASON, STRING, SetByCode("the spool"), "Why records were dropped."),
    Row(TOOL_NAME, STRING, SetByCode("`name`"), "Name of the tool."),
    Row(TOOL_TYPE, STRING, SetByCode("constant"), f"`{FUNCTION}`."),
    Row(AGENT_NAME, STRING, SetByCode("`name`"), "Name of the agent; for a tool the agent that runs it."),
    Row(WORKFLOW_NAME, STRING, SetByCode("`name`"), "Name of the session."),
    Row(SUCCESS, BOOLEAN, SetByCode("`error`"), "True if it ended without an error."),
)  # fmt: skip

DURATION_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
"""Seconds: 0.01, doubled up to 81.92."""
AGENT_BUCKETS: Final = tuple(0.1 * 2**power for power in range(13))
"""Seconds: 0.1, doubled up to 409.6."""
WORKFLOW_BUCKETS: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
"""Seconds, up to two hours."""
TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
"""Tokens: powers of four up to 67108864."""
COST_BUCKETS: Final = tuple(0.00001 * 4**power for power in range(13))
"""US dollars: 0.00001, quadrupled up to 167.77216."""


_Callback = TypeVar("_Callback")
_CALL: Final = (OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL)
_ANSWER: Final = (*_CALL, RESPONSE_MODEL, SERVER_ADDRESS, SERVER_PORT)


class Instrument(NamedTuple):
    """One metric."""

    name: str
    kind: str
    """`histogram`, `counter`, `up-down counter` or `gauge`."""
    unit: str
    about: str
    """One sentence, also the instrument's description."""
    attributes: Sequence[str]
    buckets: Sequence[float] = ()
    """Advisory bucket boundaries of a histogram."""

    @property
    def arguments(self) -> tuple[str, str, str]:
        """The arguments of a meter's method that creates a synchronous instrument."""
        return self.name, self.unit, self.about

    def observable_arguments(self, callback: _Callback) -> tuple[str, list[_Callback], str, str]:
        """Return the arguments of a meter's method that creates an asynchronous instrument."""
        return self.name, [callback], self.unit, self.about


DURATION: Final = Instrument(
    "gen_ai.client.operation.duration", "histogram", "s", "Duration of a call with its retries and stream.",
    (*_ANSWER, ERROR_TYPE, OUTCOME, STREAM_END), DURATION_BUCKETS,
)  # fmt: skip
TOKEN_USAGE: Final = Instrument(
    "gen_ai.client.token.usage", "histogram", "{token}", "Tokens of a call.", (*_ANSWER, TOKEN_TYPE), TOKEN_BUCKETS
)
TIME_TO_FIRST_CHUNK: Final = Instrument(
    "gen_ai.client.operation.time_to_first_chunk", "histogram", "s",
    "Start of the call to the first chunk.", _ANSWER, DURATION_BUCKETS,
)  # fmt: skip
TIME_TO_FIRST_TOKEN: Final = Instrument(
    "callspan.client.time_to_first_token", "histogram", "s",
    "Start of the call to the first content.", _ANSWER, DURATION_BUCKETS,
)  # fmt: skip
TIME_PER_CHUNK: Final = Instrument(
    "callspan.client.time_per_output_chunk", "histogram", "s",
    "Mean time between chunks, one value per stream.", _ANSWER, DURATION_BUCKETS,
)  # fmt: skip
COST: Final = Instrument(
    "callspan.client.cost", "histogram", "{USD}", "Cost of a call, if known.",
    (*_CALL, COST_SOURCE, COST_ESTIMATED), COST_BUCKETS,
)  # fmt: skip
TOOL_DURATION: Final = Instrument(
    "gen_ai.execute_tool.duration", "histogram", "s", "Duration of a tool run.",
    (TOOL_NAME, TOOL_TYPE, AGENT_NAME, ERROR_TYPE), DURATION_BUCKETS,
)  # fmt: skip
AGENT_DURATION: Final = Instrument(
    "gen_ai.invoke_agent.duration", "histogram", "s", "Duration of an agent run.", (AGENT_NAME, ERROR_TYPE),
    AGENT_BUCKETS,
)  # fmt: skip
WORKFLOW_DURATION: Final = Instrument(
    "gen_ai.invoke_workflow.duration", "histogram", "s", "Duration of a session, each time it is continued.",
    (WORKFLOW_NAME, ERROR_TYPE), WORKFLOW_BUCKETS,
)  # fmt: skip
TIMESTEP_DURATION: Final = Instrument(
    "callspan.agent.timestep.duration", "histogram", "s", "Duration of a timestep of an agent.", (SUCCESS,),
    DURATION_BUCKETS,
)  # fmt: skip
RETRIES: Final = Instrument(
    "callspan.client.retries", "counter", "{retry}", "Requests sent again.", _CALL
)  # fmt: skip
RATE_LIMITED: Final = Instrument(
    "callspan.client.rate_limit.hits", "counter", "{response}", "Responses with status 429.", _CALL
)
ERRORS: Final = Instrument(
    "callspan.client.errors", "counter", "{call}", "Calls that failed or timed out.",
    (*_CALL, ERROR_KIND, ERROR_RETRYABLE),
)  # fmt: skip
CONNECTION_ERRORS: Final = Instrument(
    "callspan.client.connection.errors", "counter", "{connection}",
    "Websockets that failed to open while no call was waiting.",
    (PROVIDER_NAME, SERVER_ADDRESS, SERVER_PORT, ERROR_KIND),
)  # fmt: skip
IN_FLIGHT: Final = Instrument("callspan.client.in_flight", "up-down counter", "{call}", "Calls in progress.", _CALL)
REMAINING: Final = Instrument(
    "callspan.client.rate_limit.remaining", "gauge", "{unit}", "Rate limit, as last received.",
    (*_CALL, RATE_LIMIT_UNIT),
)  # fmt: skip
LIMIT: Final = Instrument(
    "callspan.client.rate_limit.limit", "gauge", "{unit}", "Rate limit, as last received.", (*_CALL, RATE_LIMIT_UNIT)
)
RECORDS_WRITTEN: Final = Instrument(
    "callspan.records.written", "counter", "{record}", "Records accepted by a store.", (STORE,)
)
RECORDS_DROPPED: Final = Instrument(
    "callspan.records.dropped", "counter", "{record}",
    "Records lost for all stores, or rejected by one store.", (STORE, DROP_REASON),
)  # fmt: skip
RECORDS_WAITING: Final = Instrument(
    "callspan.records.oldest_waiting", "gauge", "s", "Age of the oldest undelivered record.", (STORE,)
)

INSTRUMENTS: Final = (
    DURATION, TOKEN_USAGE, TIME_TO_FIRST_CHUNK, TIME_TO_FIRST_TOKEN, TIME_PER_CHUNK, COST, TOOL_DURATION,
    AGENT_DURATION, WORKFLOW_DURATION, TIMESTEP_DURATION, RETRIES, RATE_LIMITED, ERRORS,
    CONNECTION_ERRORS, IN_FLIGHT, REMAINING, LIMIT, RECORDS_WRITTEN, RECORDS_DROPPED, RECORDS_WAITING,
)  # fmt: skip


def bounded_type(error_type: str) -> str:
    """Return an `error.type` that is a short word or a status, else `_OTHER`."""
    return error_type if _WORD.fullmatch(error_type) else OTHER
