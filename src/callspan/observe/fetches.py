"""Fetches: requests that fetch or cancel a background response. One is reported if the response has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from callspan.observe import background_responses
from callspan.observe.ending import Ending
from callspan.observe.exchange import started
from callspan.observe.live_call import RecordedExchange
from callspan.observe.ports import NO_SPAN, CallInfo, CallPorts
from callspan.providers import registry
from callspan.providers.routes import Found
from callspan.record.call import CallRecord


class FetchExchange(RecordedExchange):
    """A request that fetches a background response. It has no span or record of its own."""

    __slots__ = ("_context", "_report")

    def __init__(
        self, ports: CallPorts, report: Callable[[CallRecord, Any], object], found: Found, query: object,
        info: CallInfo, context: Any,  # noqa: ANN401 - OpenTelemetry's
    ) -> None:  # fmt: skip
        """`report` takes the record of a fetch that found the end of its response, and the `context` around it."""
        del found, query
        start_ns, zero_ns = ports.clock.wall_ns(), ports.clock.monotonic_ns()
        endpoint = registry.fetch()
        record = started(ports, info, endpoint.api, endpoint.operation, start_ns)
        self._report, self._context = report, context
        super().__init__(ports, endpoint, record, NO_SPAN, zero_ns)

    def _finish(self, ending: Ending) -> None:
        self._fold(ending)
        record = self._ended_response(ending)
        if record is not None:
            self._report(record, self._context)
        ending.body = self._body = None

    def _ended_response(self, ending: Ending) -> CallRecord | None:
        """Return the record of this request; None unless it has a background response that has ended."""
        if isinstance(ending.body, dict) and ending.body.get("status") in background_responses.UNDER_WAY:
            return None
        record = msgspec.structs.replace(self.record, **self._fields(ending)[1])
        return record if background_responses.has_ended(record) else None
