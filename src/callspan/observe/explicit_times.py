"""Explicit times: those that an application gives for a call that it records, as of one from a log."""

from __future__ import annotations

import msgspec

from callspan.record.call import Attempt, Timing


class ExplicitTimes(msgspec.Struct, eq=False):
    """Offsets from the start of a call, in nanoseconds; None: not given."""

    is_past: bool = False
    """Whether its start is given too, so that no time was observed."""
    duration_ns: int | None = None
    first_token_ns: int | None = None

    def timing(self, observed: Timing) -> Timing:
        """Return the times of the call, given those that were observed."""
        if self.is_past:
            observed = Timing(start_ns=observed.start_ns, duration_ns=self.duration_ns, server_ns=observed.server_ns)
        if self.first_token_ns is None:
            return observed
        return msgspec.structs.replace(observed, first_token_ns=self.first_token_ns)

    def attempts(self, observed: list[Attempt]) -> list[Attempt]:
        """Return the attempts of the call, given the observed ones: of one that is past their times are unknown."""
        if not self.is_past:
            return observed
        return [msgspec.structs.replace(one, headers_ns=None, end_ns=None, wait_s=None) for one in observed]
