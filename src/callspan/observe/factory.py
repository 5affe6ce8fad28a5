"""CallFactory: starts live calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from callspan.fail_open import fail_open, reported
from callspan.observe.live_call import LiveCall
from callspan.observe.ports import NO_SPAN, CallInfo, CallPorts, RequestObserver
from callspan.process.processed import Processed
from callspan.providers.base import Endpoint
from callspan.providers.batches import BatchRequest
from callspan.record.call import CallRecord, Place, Request, Timing
from callspan.record.ids import new_id

WebhookReport: TypeAlias = Callable[[CallInfo, str, str, int | None], None]
"""Takes a client's server, a response's id and status, and when it ended, Unix nanoseconds (None: now)."""
_NOWHERE: Final = Place()
_NO_SURROUNDINGS: Final[tuple[None, None, dict[str, object]]] = (None, None, {})
_START_SPAN: Final = fail_open("start a span")
_READ_SURROUNDINGS: Final = fail_open("read the session and metadata around a call")


class CallFactory(CallPorts, frozen=True, kw_only=True):
    """Starts calls; one per `instrument()`. Safe from any thread."""

    fetch: CallFactory | None = None
    """Starts to observe requests that fetch background responses; None: these are not observed."""
    about_batches: Callable[[BatchRequest], CallFactory] | None = None
    """Returns what starts to observe a request about batches; None: these are not observed."""
    hosted: CallFactory | None = None
    """Starts to observe requests about the sessions of hosted agents; None: these are not observed."""
    webhook: WebhookReport | None = None
    """Called with the end of a background response that a webhook has reported; None: not wanted."""

    def without_records(self, observer: Callable[[CallRecord], RequestObserver], **changes: Any) -> CallFactory:  # noqa: ANN401 - any fields
        """Return a factory for requests that are not calls but report some to the `observer`.

        They make no record of their own. `changes` are further fields, see `CallPorts`.
        """
        return msgspec.structs.replace(
            self, observer=observer, write=_nothing, observed=_nothing, begun=lambda _: _over,
            under_way=lambda _: False, estimates=False, judges=False, fetch=None, webhook=None, hosted=None,
            about_batches=None, **changes,
        )  # fmt: skip

    def start(self, endpoint: Endpoint, info: CallInfo, *, alone: bool = False) -> LiveCall:
        """Return a new call that has just begun, with its span started in the current context.

        `alone` True: there is neither a session nor metadata around it.
        """
        start_ns, zero_ns = self.clock.wall_ns(), self.clock.monotonic_ns()
        if self.forked:
            self.on_first_call_after_fork()
        try:
            place, call_ended, metadata = _NO_SURROUNDINGS if alone else self.surroundings()
        except reported(_READ_SURROUNDINGS):
            place, call_ended, metadata = None, None, {}
        # More than fifteen keywords in one call go through a dictionary, which takes five times as long.
        record = CallRecord(
            call_id=new_id(),
            record_version=1,
            outcome="started",
            provider=info.provider,
            api=endpoint.api,
            operation=endpoint.operation,
            sdk=info.sdk,
            server_address=info.server_address,
            server_port=info.server_port,
            place=_NOWHERE if place is None else place,
            service=self.service,
            host=self.host,
            pid=os.getpid(),
            request=Request(model=info.model, stream=info.stream),
            timing=Timing(start_ns=start_ns),
        )
        if metadata:
            record = msgspec.structs.replace(record, metadata=metadata)
        begun = self.processors.begun(record)
        try:
            span = self.start_span(begun) if self.observer is None else self.observer(record)
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


def nowhere() -> tuple[None, None, dict[str, object]]:
    """Return an empty environment: no session, no callback for the end, no metadata."""
    return None, None, {}


def _nothing(record: Processed[CallRecord]) -> None:
    """Do nothing: the request is not a call, so it is neither written nor measured."""


def _over() -> None:
    """Do nothing: the request was not counted as an active call."""
