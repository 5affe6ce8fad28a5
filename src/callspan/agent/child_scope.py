"""Child scope: the base of operations, which run in a timestep, a session, another operation, or alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.context import Context

from callspan.agent.api_misuse import installed_or_warn
from callspan.agent.context import current_scope
from callspan.agent.decorators import Decorating
from callspan.agent.scope import Scope, is_within

if TYPE_CHECKING:
    from callspan.agent.event_recorder import EventRecorder
    from callspan.agent.sessions import Session
    from callspan.agent.timesteps import Timestep


class ChildScope(Scope, Decorating):
    """A scope inside another one: that it was made from, or the innermost within that where it starts."""

    __slots__ = ("_asked_by", "_flags", "_owner")

    reads_arguments = True

    def __init__(self, owner: EventRecorder | None) -> None:
        super().__init__()
        self._asked_by = owner
        self._owner: Scope | None = owner
        self._flags: list[str] = []

    @property
    def session(self) -> Session | None:
        """The session it runs in, or None."""
        return self._owner.session if self._owner is not None else None

    @property
    def step(self) -> Timestep | None:
        """The timestep it runs in, or None."""
        return self._owner.step if self._owner is not None else None

    @property
    def above(self) -> Scope | None:
        """The timestep, session, tool or agent it runs in, or None."""
        return self._owner

    def flag(self, flag: str) -> None:
        """Put a mark of misuse on its row."""
        self._flags.append(flag)

    def nobody_records(self) -> bool:
        """Return whether a run of it here and now would leave nothing behind."""
        scope = current_scope()
        return (installed_or_warn() if scope is None else scope.runtime) is None

    def _renew(self) -> None:
        super()._renew()
        self._flags = []

    def _open(self, around: Scope | None, current: Context) -> Context:
        owner = self._asked_by
        if owner is not None:
            owner, flags = owner.target()
            self._flags += flags
        if owner is None or is_within(around, owner):
            self._owner = around
        else:
            self._owner, current = owner, owner.inner or current
        self.runtime = installed_or_warn() if self._owner is None else self._owner.runtime
        if self._owner is not None:
            self.place = self._owner.place
        return current
