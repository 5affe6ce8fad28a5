"""CallFactory: starts live calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from callspan.fail_open import fail_open, reported
from callspan.observe.exchange import NOWHERE, Exchange, started
from callspan.observe.live_call import LiveCall
from callspan.observe.ports import NO_SPAN, CallInfo, CallPorts
from callspan.providers.base import Endpoint
from callspan.providers.routes import Found, Kind
from callspan.record.ids import new_id

WebhookReport: TypeAlias = Callable[[CallInfo, str, str, int | None], None]
"""Takes a client's server, a response's id and status, and when it ended, Unix nanoseconds (None: now)."""
StartExchange: TypeAlias = Callable[[Found, Any, CallInfo, Any], Exchange]
"""Takes the route of a request, its query, its client's server, and OpenTelemetry's context around it."""
_NO_SURROUNDINGS: Final[tuple[None, None, dict[str, object]]] = (None, None, {})
_START_SPAN: Final = fail_open("start a span")
_READ_SURROUNDINGS: Final = fail_open("read the session and metadata around a call")


class CallFactory(CallPorts, frozen=True, kw_only=True):
    """Starts calls; one per `instrument()`. Safe from any thread."""

    others: Mapping[Kind, StartExchange] = {}
    """Starts to observe a request of another kind; a kind without a function is not observed."""
    webhook: WebhookReport | None = None
    """Called with the end of a background response that a webhook has reported; None: not wanted."""

    def start(self, endpoint: Endpoint, info: CallInfo, *, alone: bool = False) -> LiveCall:
        """Return a new call that has just begun, with its span started in the current context.

        `alone` True: there is neither a session nor metadata around it.
        """
        start_ns, zero_ns = self.clock.wall_ns(), self.clock.monotonic_ns()
        try:
            place, call_ended, metadata = _NO_SURROUNDINGS if alone else self.surroundings()
        except reported(_READ_SURROUNDINGS):
            place, call_ended, metadata = None, None, {}
        record = started(
            self, info, endpoint.api, endpoint.operation, start_ns, new_id(), NOWHERE if place is None else place
        )
        if metadata:
            record = msgspec.structs.replace(record, metadata=metadata)
        begun = self.processors.begun(record)
        try:
            span = self.start_span(begun)
        except reported(_START_SPAN):
            span = NO_SPAN
        return LiveCall(self, endpoint, record, begun, span, call_ended, zero_ns)


class LateFactory(CallFactory, frozen=True, kw_only=True):
    """A factory that is chosen where a call begins, because its content level is decided there."""

    choose: Callable[[], CallFactory]

    @classmethod
    def of(cls, base: CallFactory, choose: Callable[[], CallFactory]) -> LateFactory:
        """Return a factory that starts calls by the chosen one; for anything else it is `base`."""
        return cls(**{name: getattr(base, name) for name in CallFactory.__struct_fields__}, choose=choose)

    def start(self, endpoint: Endpoint, info: CallInfo, *, alone: bool = False) -> LiveCall:
        """Return a new call of the chosen factory."""
        return self.choose().start(endpoint, info, alone=alone)
