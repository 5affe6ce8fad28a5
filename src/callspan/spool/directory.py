"""Directory: where records wait for one set of stores.

Its name is a hash of the stores, and a file in it lists them, so that any process that finds it knows its stores.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from hashlib import sha256
from itertools import chain, takewhile
from math import inf
from pathlib import Path
from typing import Final, NamedTuple

from callspan.record.codec import NO_RECORD, decode
from callspan.record.events import Record, end_of
from callspan.runtime.file_lock import make_private
from callspan.spool.losses import Losses, add_losses
from callspan.spool.segment import (
    OWN_SUFFIX,
    Line,
    Segment,
    created_ns,
    is_locked,
    line_of,
    lines_in,
    lines_of,
    opened,
    read_cursor,
)

STORES_FILE: Final = "stores"
REJECTED_FILE: Final = "rejected.jsonl"
_DIGITS: Final = 16
_KEY_DIGITS: Final = 12
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a private directory is created in it
_TEMPORARY: Final = ("TMPDIR", "TEMP", "TMP")
"""Variables that name a temporary directory."""
_ALWAYS: Final = (Path("/tmp"), _SHARED_MEMORY)  # noqa: S108 - private directories are created in them


class Target(NamedTuple):
    """A store, as the spool identifies it."""

    name: str
    """Its URL without user, password and query, for messages."""
    identity: str
    """Its URL without user and password; parameters are hashed."""
    paths: tuple[Path, ...] = ()
    """For a file: its path with symbolic links resolved, then the path that names it. Empty for other stores."""

    def list_entry(self, root: Path) -> str:
        """Return its line in the list of stores. A file beside the root is listed by name, so that both can move."""
        if not self.paths:
            return self.identity
        parent = root.parent.resolve()
        file = next((path.name for path in self.paths if path.parent == parent), self.paths[0])
        return f"{self.name.partition(':')[0]}:///{file}"

    @cache  # noqa: B019 - of the few stores of a process
    def key(self, root: Path) -> str:
        """Return the short name of its cursors below a root."""
        return key_of(self.list_entry(root))


def key_of(line: str) -> str:
    """Return the short name of a store's cursors, given its line in the list of stores."""
    return sha256(os.fsencode(line)).hexdigest()[:_KEY_DIGITS]


def directory_of(root: Path, stores: Collection[Target]) -> Path:
    """Return the directory of a set of stores below a root."""
    return root / _name_of(_list_entries(root, stores))


def create(directory: Path, stores: Collection[Target], *, sync: bool = False) -> bool:
    """Create a private directory with the list of its stores; return whether `sync_stores` is still to be called.

    `sync`: sync it to disk now. Raises OSError.
    """
    is_fallback = directory.parent in fallback_roots()
    if is_fallback:
        directory.parent.parent.stat()  # a temporary directory is the system's, not to be created
    created_directories = make_private(directory)
    for created in created_directories if sync else ():
        sync_directory(created.parent)
    for path in (directory.parent, directory) if is_fallback else (directory,):
        _check_own(path, closes=path == directory)
    if stores_of(directory):
        return False
    _write_stores(directory, _list_entries(directory.parent, stores))
    if sync:
        sync_stores(directory)
    add_losses(directory, Losses())
    return not sync


def _list_entries(root: Path, stores: Iterable[Target]) -> list[str]:
    return sorted({store.list_entry(root) for store in stores})


def _write_stores(directory: Path, lines: Iterable[str]) -> None:
    """Write the list of a directory's stores."""
    # Another thread may create the directory now, and another container has processes with the same ids.
    new_path = directory / f"{STORES_FILE}.{os.urandom(6).hex()}"
    with opened(new_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
        os.write(descriptor, os.fsencode("".join(f"{line}\n" for line in lines)))
    new_path.replace(directory / STORES_FILE)


def sync_stores(directory: Path) -> None:
    """Sync the list of a directory's stores to disk: after a power failure only the directory's name confirms it."""
    with suppress(OSError), opened(directory / STORES_FILE, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)


def lists_in(root: Path, store_sets: Iterable[Collection[Target]]) -> dict[Path, list[str]]:
    """Return the directories below a root that state their stores, each with the list.

    A list that a power failure or a full disk has damaged is written again, if the directory's name confirms one of
    `store_sets`, or a list that was not yet in its place. Empty for another user's root.
    """
    lists: dict[Path, list[str]] = {}
    with suppress(OSError):
        for directory in entries_of(root):
            if lines := stores_of(directory) or _restored(directory, store_sets):
                lists[directory] = lines
    return lists


def _restored(directory: Path, store_sets: Iterable[Collection[Target]]) -> list[str]:
    """Return the restored list of a directory with segments; empty if nothing confirms one, or it cannot be written."""
    with suppress(OSError):
        if segments_in(directory):
            lists = (_list_entries(directory.parent, stores) for stores in store_sets)
            unplaced = (_lines_of(path) for path in directory.glob(f"{STORES_FILE}.*"))
            if confirmed := next(filter(partial(_is_named_by, directory), chain(lists, unplaced)), None):
                _write_stores(directory, confirmed)
                sync_stores(directory)
                return [*confirmed]
    return []


def _is_named_by(directory: Path, lines: Sequence[str]) -> bool:
    return directory.name == _name_of(lines)


def _name_of(lines: Iterable[str]) -> str:
    return sha256(os.fsencode("\n".join(lines))).hexdigest()[:_DIGITS]


def sync_directory(directory: Path) -> None:
    """Sync the file names of a directory to disk. Raises OSError."""
    with opened(directory.resolve(), os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)


def _check_own(directory: Path, *, closes: bool = False) -> None:
    """Raise OSError if another user owns or may enter a directory: anyone can create one in `/tmp`.

    `closes`: forbid others to enter it instead. With `fsGroup`, Kubernetes opens it to a group at each mount.
    """
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{directory} is not a directory")
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{directory} belongs to another user")
    if status.st_mode & _OTHERS:
        if not closes:
            raise PermissionError(f"{directory} can be entered by other users: chmod 700")
        directory.chmod(stat.S_IRWXU)


def stores_of(directory: Path) -> list[str]:
    """Return the list of a directory's stores; empty if missing, unreadable, or at odds with the directory's name."""
    lines = _lines_of(directory / STORES_FILE)
    return lines if _is_named_by(directory, lines) else []


def _lines_of(path: Path) -> list[str]:
    try:
        text = os.fsdecode(path.read_bytes())
    except OSError:
        return []
    return text.removesuffix("\n").split("\n") if text else []


def keys_of(directory: Path) -> frozenset[str]:
    """Return the short names of a directory's stores."""
    return frozenset(map(key_of, stores_of(directory)))


def fallback_roots() -> list[Path]:
    """Return the roots to use if the usual one is not writable: below temporary directories, then in shared memory.

    They are named, not tried out: records also wait in a directory that is full by now. A relative one is left out,
    because a process elsewhere could not find it.
    """
    temporary = [Path(os.environ.get(variable, "")) for variable in _TEMPORARY]
    directories = dict.fromkeys([*(directory for directory in temporary if directory.is_absolute()), *_ALWAYS])
    return [directory / f"callspan-{os.geteuid()}" for directory in directories]


def is_in_memory(directory: Path) -> bool:
    """Return whether a directory is in memory instead of on a disk."""
    return directory.is_relative_to(_SHARED_MEMORY)


def directories_in(roots: Sequence[Path]) -> Iterator[Path]:
    """Yield the directories of all sets of stores below these roots, except roots of other users."""
    for root in dict.fromkeys(roots):
        with suppress(OSError):
            yield from filter(stores_of, entries_of(root))


def entries_of(root: Path) -> list[Path]:
    """Return the entries of a root. Raises OSError, also if it is in `/tmp` and another user may have written to it."""
    if root in fallback_roots():
        _check_own(root)
    return sorted(root.iterdir())


def segments_in(directory: Path) -> list[Path]:
    """Return the segments of this version, oldest first. Raises OSError."""
    return sorted(path for path in files_in(directory) if path.name.endswith(OWN_SUFFIX) and is_regular(path))


def is_regular(path: Path) -> bool:
    """Return whether a file is neither a link nor a pipe. Raises OSError."""
    with suppress(FileNotFoundError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def left_segments_in(directories: Iterable[Path]) -> list[Path]:
    """Return the segments of this version that no running process holds, oldest first by directory. Raises OSError."""
    return [path for directory in directories for path in segments_in(directory) if not is_locked(path)]


def has_pending(segment: Path, key: str, size: int) -> bool:
    """Return whether a segment is meant for a store that lacks a part of its first `size` bytes."""
    return segment.exists() and key in keys_of(segment.parent) and read_cursor(segment, key) < size


def size_of(directory: Path) -> int:
    """Return the size of all segments of this version, of all processes. Raises OSError."""
    return sum(file_size(path) for path in segments_in(directory))


def unstored_bytes(directory: Path) -> int:
    """Return the number of bytes that no store has. Raises OSError."""
    keys = keys_of(directory)
    return sum(
        max(0, file_size(path) - max((read_cursor(path, key) for key in keys), default=0))
        for path in segments_in(directory)
    )


def excess_segments(directory: Path, limit: int) -> Iterator[tuple[Path, frozenset[str]]]:
    """Yield segments to delete until the directory is below a limit, each with the stores that lack it. Raises OSError.

    Only segments that some store has are deleted: first those that every store has, then those that only the store
    furthest behind lacks, oldest first. Segments of a store that is just a little behind come last.
    """
    keys, pending_bytes, pending_stores = keys_of(directory), Counter[str](), dict[Path, frozenset[str]]()
    sizes = {path: file_size(path) for path in segments_in(directory)}
    for path, size in sizes.items():
        pending = {key: size - cursor for key in keys if (cursor := read_cursor(path, key)) < size}
        pending_bytes.update(pending)
        pending_stores[path] = frozenset(pending)
    excess = sum(sizes.values()) - limit
    for path in sorted(sizes, key=lambda path: -min((pending_bytes[key] for key in pending_stores[path]), default=inf)):
        if excess > 0 and sizes[path] and pending_stores[path] < keys:
            excess -= sizes[path]
            yield path, pending_stores[path]


def oldest(directory: Path, key: str) -> int | None:
    """Return since when the oldest record waits for a store, Unix nanoseconds; None if none waits. Raises OSError."""
    oldest_ns: int | None = None
    for path in segments_in(directory):
        if oldest_ns is not None and oldest_ns <= created_ns(path):
            break
        cursor = read_cursor(path, key)
        if cursor < file_size(path):
            since_ns = _since_ns(path, cursor)
            oldest_ns = since_ns if oldest_ns is None else min(oldest_ns, since_ns)
    return oldest_ns


def _since_ns(path: Path, cursor: int) -> int:
    """Return when the first record after a cursor was appended, as far as it states that."""
    stated_ns = 0
    with suppress(*NO_RECORD):
        stated_ns = end_of(decode(next((line.payload for line in lines_of(path, cursor) if line.payload), b"")))
    return max(created_ns(path), stated_ns)


def file_size(path: Path) -> int:
    """Return the size of a file; 0 if it is missing. Raises OSError."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def files_in(directory: Path) -> list[Path]:
    """Return the files of a directory; none if it is missing or unreadable. Raises OSError."""
    # Not `glob`, which leaves a compiled pattern per directory in the cache of `re`.
    try:
        return list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


class WaitingSegment(NamedTuple):
    """The records of a segment that a store lacks."""

    path: Path
    records: int
    is_held: bool
    """Whether a running process holds the segment and delivers it."""


def waiting(directory: Path, key: str) -> list[WaitingSegment]:
    """Return the segments with records that wait for a store, oldest first. Raises OSError."""
    return [
        WaitingSegment(path, records, is_locked(path))
        for path in segments_in(directory)
        if (records := count_records(path, read_cursor(path, key)))
    ]


def count_records(path: Path, offset: int) -> int:
    """Return the number of records in a segment after an offset; 0 if it is another user's. Raises OSError."""
    return sum(line.payload != b"" for line in lines_of(path, offset))


def adopt(path: Path) -> Segment | None:
    """Lock a segment left by an ended process; None if a process holds it or its stores are unknown."""
    keys = keys_of(path.parent)
    return Segment.adopt(path, keys) if keys else None


def ends_in(directories: Iterable[Path]) -> dict[Path, int]:
    """Return the files with records in these directories, delivered or not, with their sizes. Raises OSError.

    Includes the segments of running processes, which grow, and rejected records.
    """
    paths = (path for directory in directories for path in (*segments_in(directory), directory / REJECTED_FILE))
    return {path: file_size(path) for path in paths}


def lines_before(path: Path, end: int, offset: int = 0) -> Iterator[Line]:
    """Yield the complete lines of a segment between two offsets. Raises OSError."""
    return takewhile(lambda line: line.end <= end, lines_of(path, offset))


def records_in(ends: Mapping[Path, int]) -> Iterator[Record]:
    """Yield the undamaged records of segments up to these sizes, delivered or not. Raises OSError."""
    for path, end in ends.items():
        for line in lines_before(path, end) if path.name.endswith(OWN_SUFFIX) else ():
            with suppress(*NO_RECORD):
                yield decode(line.payload or b"")


def waiting_payloads(ends: Mapping[Path, int], key: Callable[[Path], str]) -> Iterator[bytes]:
    """Yield the undamaged lines of segments up to these sizes that a store lacks. Raises OSError.

    `key` returns the short name of the store's cursors, given a directory.
    """
    for path, end in ends.items():
        if path.name.endswith(OWN_SUFFIX) and has_pending(path, name := key(path.parent), end):
            yield from (line.payload for line in lines_before(path, end, read_cursor(path, name)) if line.payload)


def rewrite(ends: Mapping[Path, int], change: Callable[[bytes], bytes]) -> int:
    """Replace records by what `change` returns, delivered or not; return the number of changed ones. Raises OSError.

    Includes the segments of running processes, up to these sizes. Offsets stay: a record is filled with spaces, and
    becomes a line of spaces, which readers skip, if `change` returns no bytes or more than there were. Damaged lines
    and rejected records, which have no checksum, are passed as they are, and can only be erased.
    """
    return sum(_rewrite(path, end, change) for path, end in ends.items())


def _rewrite(path: Path, file_end: int, change: Callable[[bytes], bytes]) -> int:
    changed = 0
    # A separate descriptor: a write through an appending one would append.
    with suppress(FileNotFoundError), opened(path, os.O_RDWR) as descriptor:
        data = os.pread(descriptor, file_end, 0)
        for start, end, intact_payload in lines_in(data, 0):
            size, payload = end - 1 - start, data[start : end - 1] if intact_payload is None else intact_payload
            if payload and (new_payload := change(payload)) != payload:
                is_kept = intact_payload is not None and 0 < len(new_payload) <= len(payload)
                line = line_of(new_payload.ljust(len(payload)))[:size] if is_kept else b" " * size
                os.pwrite(descriptor, line, start)
                changed += 1
        if changed:
            os.fsync(descriptor)
    return changed
