"""Explicit times: those that an application gives for a call that it records, as of one from a log."""

from __future__ import annotations

from typing import Any

import msgspec

from callspan.record.call import Timing


class ExplicitTimes(msgspec.Struct, eq=False):
    """Offsets from the start of a call, in nanoseconds; None: not given."""

    is_past: bool = False
    """Whether its start is given too, so that no time was observed."""
    duration_ns: int | None = None
    first_token_ns: int | None = None

    def applied(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields `timing` and `attempts` of a record with these times; of a past call no other is known."""
        timing, attempts = fields["timing"], fields["attempts"]
        if self.is_past:
            timing = Timing(start_ns=timing.start_ns, duration_ns=self.duration_ns, server_ns=timing.server_ns)
            attempts = [msgspec.structs.replace(one, headers_ns=None, end_ns=None, wait_s=None) for one in attempts]
        if self.first_token_ns is not None:
            timing = msgspec.structs.replace(timing, first_token_ns=self.first_token_ns)
        return {**fields, "timing": timing, "attempts": attempts}
