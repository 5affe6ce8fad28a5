"""Hosted exchange: a request about a hosted agent's session or a job; reports the facts in its events and answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from callspan.fail_open import fail_open, reported
from callspan.observe.ending import Ending
from callspan.observe.exchange import Exchange, started
from callspan.observe.hosted_agents import HostedAgents
from callspan.observe.ports import NO_SPAN, CallInfo, ExchangePorts
from callspan.providers.base import HOSTED
from callspan.providers.hosted import Fact, Fold, HostedPath, HostedReader, SessionFacts, events_in, listed
from callspan.providers.wire_json import word

_READ: Final = fail_open("read what a hosted agent did")


class HostedExchange(Exchange):
    """A request about a session or a job. Each event is read before the caller gets it. It has no span or record."""

    __slots__ = ("_agents", "_chunks", "_fold", "_job_created", "_page", "_path", "_reader", "_report", "_sent")

    def __init__(
        self, ports: ExchangePorts, info: CallInfo, path: HostedPath, page: str | None, reader: HostedReader,
        agents: HostedAgents, report: Callable[[Sequence[Fact]], object],
        job_created: Callable[[str], object],
    ) -> None:  # fmt: skip
        """`page` is the cursor of the requested page; None for the first. `report` takes facts in their order."""
        start_ns, zero_ns = ports.clock.wall_ns(), ports.clock.monotonic_ns()
        self._path, self._page, self._reader, self._agents, self._report = path, page, reader, agents, report
        self._job_created = job_created
        self._fold: Fold | None = None
        self._sent: object = None
        self._chunks = 0
        super().__init__(ports, started(ports, info, path.api, HOSTED, start_ns), NO_SPAN, zero_ns)

    @property
    def chunks(self) -> int:
        """Number of received events of a stream."""
        return self._chunks

    def sent(self, content: bytes, body: object, body_bytes: int | None = None) -> None:
        """Keep the sent messages until the provider has accepted them."""
        del content, body_bytes
        if not self._endings:
            self._sent = body

    def chunk(self, data: object) -> None:
        """Report the facts of one event of a stream."""
        if self._endings:
            return
        self._chunks += 1
        try:
            self._fold = self._fold or self._reader.fold(self._path)
            facts = self._fold.add(data)
            self._report(facts)
            if self._sent is not None and self._path.what == "session":
                self._report_created(facts)
        except reported(_READ):
            return

    def forget_response(self) -> None:
        """Discard the data of a response that was replaced by another one."""
        super().forget_response()
        self._fold, self._chunks = None, 0

    def _report_created(self, facts: Sequence[Fact]) -> None:
        """Report what a creation sent as soon as its stream states the id of the session."""
        created = next((fact for fact in facts if isinstance(fact, SessionFacts)), None)
        if created is not None:
            self._report_sent({"id": created.session_id})

    def _report_sent(self, answer: object) -> None:
        sent, self._sent = self._sent, None
        self._report(self._reader.sent(self._path, sent, answer))

    def _finish(self, ending: Ending) -> None:
        if self.has_body and self._fold is None:
            with _READ:
                self._report_answer(self._body)
        if ending.outcome == "success" and ending.error is None:
            with _READ:
                self._report_accepted()
        self._fold = self._sent = self._body = None

    def _report_answer(self, body: object) -> None:
        path, job = self._path, word(body, "id")
        if path.what == "job" and job is not None:
            self._job_created(job)
        if path.what != "events":
            self._report(self._reader.facts(path, body))
            return
        events, following = events_in(body)
        scope = path.session_id, path.thread_id
        fold = self._agents.fold_of(self._page, lambda: self._reader.fold(path), *scope)
        facts = [fact for event in events for fact in fold.add(event)]
        self._report([listed(fact) for fact in facts])
        if following is not None:
            self._agents.keep_fold(fold, following, *scope)

    def _report_accepted(self) -> None:
        """Report the sent messages."""
        if self._sent is not None and self._path.what in ("send", "session"):
            self._report_sent(self._body)
