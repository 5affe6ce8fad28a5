"""Segment writer: the segment that this process appends to, and the next one when it is full or deleted."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Final

from callspan.fail_open import ours
from callspan.spool.cap import Cap
from callspan.spool.segment import Segment
from callspan.spool.segment_set import SegmentSet

_RETRY_S: Final = 1.0


class SegmentWriter:
    """Appends frames to the active segment. Callers hold the lock of the spool."""

    __slots__ = ("_active", "_cap", "_directory", "_open_at", "_segments", "_sync", "used")

    def __init__(self, directory: Path, segments: SegmentSet, cap: Cap, *, sync: bool) -> None:
        """`sync`: fsync each frame before its append returns."""
        self.used = 0
        """Approximate bytes in the directory: as measured at the last segment, plus those written since."""
        self._directory = directory
        self._segments = segments
        self._cap = cap
        self._sync = sync
        self._active: Segment | None = None
        self._open_at = 0.0

    def write(self, frame: bytes) -> None:
        """Append one frame.

        Raises:
            OSError: the disk is full or not writable, or creating a file failed a moment ago.
        """
        segment = self._active
        if segment is None or segment.missing or segment.end + len(frame) > self._cap.segment_bytes:
            segment = self._rotate()
        try:
            segment.append(frame)
        except OSError as error:
            # If the file reached a size limit, another file can be written; on a full disk it cannot.
            if error.errno != errno.EFBIG or not segment.end:
                raise
            segment = self._rotate()
            segment.append(frame)
        if self._sync:
            segment.sync()
        self.used += len(frame)

    def seal(self) -> None:
        """Seal the active segment: the next frame goes to a new one."""
        segment, self._active = self._active, None
        if segment is None:
            return
        segment.seal()
        if self._segments.sinks == 0 or not segment.end:
            self._segments.release(segment)
        self._segments.remove_delivered(segment)

    def _rotate(self) -> Segment:
        if self._active is not None and not self._active.end and not self._active.missing:
            return self._active
        now = time.monotonic()
        if now < self._open_at:
            raise OSError(f"{self._directory} could not create a file a moment ago")
        try:
            segment = self._segments.create()
        except ours(OSError):
            self._open_at = now + _RETRY_S
            raise
        self._open_at = 0.0
        self.seal()
        self._active = segment
        # Other processes write here too, and their bytes count towards the cap.
        self.used = self._cap.measure()
        return segment
