"""Hosted agents of the scripted provider: recognises requests about sessions, and answers them."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import NamedTuple, Protocol

from callspan.testing.provider.answer import OPENAI, Answer, Family
from callspan.testing.provider.anthropic_messages import ANTHROPIC
from callspan.testing.provider.anthropic_sessions import Sessions
from callspan.testing.provider.jobs import Jobs
from callspan.testing.provider.openai_agents import AgentSessions
from callspan.testing.provider.rendering import Rendering, render, render_body, render_live
from callspan.testing.provider.script import ReceivedRequest, Reply
from callspan.testing.provider.session_log import SessionLog

_PATH = re.compile(r"/v1(?P<agents>/agents)?/sessions(?:/(?P<rest>.*))?$")


class Scripted(Protocol):
    """Takes the next reply that is scripted for a request."""

    def __call__(self, request: ReceivedRequest, *, inference: bool) -> Reply:
        """Return the reply; the usual one if there is none."""


class HostedRequest(NamedTuple):
    """A request about sessions."""

    family: Family
    rest: list[str]
    """The segments of its path behind `/sessions`."""


class HostedAgents:
    """The hosted agents of both providers. Safe from any thread."""

    def __init__(self) -> None:
        self._anthropic, self._openai, self._jobs = Sessions(), AgentSessions(), Jobs()

    @staticmethod
    def rest_of(request: ReceivedRequest) -> HostedRequest | None:
        """Return the parsed request about sessions; None for any other."""
        found = _PATH.search(request.path)
        if found is None:
            return None
        rest = found["rest"].split("/") if found["rest"] else []
        return HostedRequest(OPENAI if found["agents"] else ANTHROPIC, rest)

    def rendering(self, request: ReceivedRequest, take: Scripted) -> Rendering | None:
        """Return the rendering for a request about sessions or jobs; None for any other.

        What is scripted for its path wins.
        """
        path = self.rest_of(request)
        if path is None:
            return self._jobs.rendering(request, take)
        reply = take(request, inference=False)
        answer = Answer(request, reply, path.family.request_id(), {})
        if reply.status >= HTTPStatus.BAD_REQUEST or reply.raw is not None:
            return render(answer, None)
        of = self._openai if path.family is OPENAI else self._anthropic
        found = of.answer(request, path.rest, lambda: take(request, inference=True))
        if found is None:
            return render(answer, None)
        if isinstance(found, SessionLog):
            return render_live(answer, path.family, found.stream)
        return render_body(answer, path.family, found)
