"""Directory: the place where records wait for one set of stores; lists the stores and the waiting records of each.

Its name is the hash of the stores, and a file in it lists them, so that whoever finds it knows whom it is for.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Final, NamedTuple

from callspan.file_lock import make_private
from callspan.spool.losses import Losses, add_losses
from callspan.spool.segment import (
    CURSOR_SUFFIX,
    OWN_SUFFIX,
    SUFFIX,
    Segment,
    created_ns,
    is_locked,
    lines_in,
    opened,
    read_cursor,
)

STORES_FILE: Final = "stores"
REJECTED_FILE: Final = "rejected.jsonl"
_DIGITS: Final = 16
_KEY_DIGITS: Final = 12
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a directory of one's own in it
_MOUNTS: Final = Path("/proc/self/mounts")
_NETWORK: Final = ("nfs", "cifs", "smb", "9p", "ceph", "gluster", "lustre", "afs", "fuse.sshfs", "fuse.s3fs", "gpfs")


class Target(NamedTuple):
    """A store, as far as a spool knows one."""

    name: str
    """Its URL without user, password and query, for people."""
    identity: str
    """Its URL without user and password; parameters are a hash."""
    path: Path | None = None
    """The file of a store that is one."""

    def listed_as(self, root: Path) -> str:
        """Return the line for it in the directories below a root; a file beside the root may be moved with it."""
        if self.path is None:
            return self.identity
        path = self.path.absolute()
        shown = path.name if path.parent == root.absolute().parent else path
        return f"{self.name.partition(':')[0]}:///{shown}"

    @cache  # noqa: B019 - of the few stores of a process
    def key(self, root: Path) -> str:
        """Return the short name of its cursors there."""
        return key_of(self.listed_as(root))


def key_of(listed: str) -> str:
    """Return the short name of a store's cursors, by its line in the list of stores."""
    return sha256(os.fsencode(listed)).hexdigest()[:_KEY_DIGITS]


def directory_of(root: Path, stores: Collection[Target]) -> Path:
    """Return the directory of a set of stores below a root."""
    listed = sorted({store.listed_as(root) for store in stores})
    return root / sha256(os.fsencode("\n".join(listed))).hexdigest()[:_DIGITS]


def create(directory: Path, stores: Collection[Target], *, sync: bool = False) -> None:
    """Create a directory for its owner only, with the list of its stores; `sync`: on the disk. Raises OSError."""
    made = make_private(directory)
    for one in made if sync else ():
        sync_directory(one.parent)
    for one in (directory.parent, directory) if directory.parent in fallback_roots() else (directory,):
        _check_own(one)
    listed = directory / STORES_FILE
    if not listed.exists():
        lines = sorted({store.listed_as(directory.parent) for store in stores})
        fresh = directory / f"{STORES_FILE}.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        with opened(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
            os.write(descriptor, os.fsencode("".join(f"{line}\n" for line in lines)))
            if sync:
                os.fsync(descriptor)
        fresh.replace(listed)
        add_losses(directory, Losses())


def sync_directory(directory: Path) -> None:
    """Have the names of the files in a directory survive a power failure. Raises OSError."""
    with opened(directory.resolve(), os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)


def _check_own(directory: Path) -> None:
    """Raise OSError for a directory that another user owns or may enter, as anybody may make one in `/tmp`."""
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{directory} is not a directory")
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{directory} belongs to another user")
    if found.st_mode & _OTHERS:
        raise PermissionError(f"{directory} can be entered by other users: chmod 700")


def stores_of(directory: Path) -> list[str]:
    """Return the list of a directory's stores; empty where it has none that can be read."""
    try:
        return os.fsdecode((directory / STORES_FILE).read_bytes()).splitlines()
    except OSError:
        return []


def keys_of(directory: Path) -> frozenset[str]:
    """Return the short names of a directory's stores."""
    return frozenset(map(key_of, stores_of(directory)))


def fallback_roots() -> list[Path]:
    """Return the roots that are used where the usual one cannot be written: temporary files, then shared memory."""
    own = f"callspan-{os.geteuid()}"
    shared = [_SHARED_MEMORY / own] if _SHARED_MEMORY.is_dir() else []
    return [Path(tempfile.gettempdir()) / own, *shared]


def is_in_memory(directory: Path) -> bool:
    """Return whether a directory takes memory, not room on a disk."""
    return directory.is_relative_to(_SHARED_MEMORY)


def directories_in(roots: Sequence[Path]) -> Iterator[Path]:
    """Yield the directories of all sets of stores below these roots; none below one that another user may have made."""
    shared = fallback_roots()
    for root in dict.fromkeys(roots):
        try:
            if root in shared:
                _check_own(root)
            found = sorted(root.iterdir())
        except OSError:
            continue
        yield from filter(stores_of, found)


def segments_in(directory: Path) -> list[Path]:
    """Return the segments of this version, the oldest first. Raises OSError."""
    return sorted(path for path in _files(directory) if path.name.endswith(OWN_SUFFIX))


def foreign_segments_in(directory: Path) -> list[Path]:
    """Return the segments of other versions. Raises OSError."""
    return sorted(path for path in _files(directory) if path.suffix == SUFFIX and not path.name.endswith(OWN_SUFFIX))


def remove_stray_cursors(directory: Path) -> None:
    """Delete the cursors of deleted segments. Raises OSError."""
    files = _files(directory)
    names = {path.name for path in files}
    for path in files:
        if path.suffix == CURSOR_SUFFIX and path.name.rsplit(".", 2)[0] not in names:
            path.unlink(missing_ok=True)


def lacks(segment: Path, key: str) -> bool:
    """Return whether a store lacks a part of a segment that is for it."""
    return key in keys_of(segment.parent) and read_cursor(segment, key) < _size(segment)


def size_of(directory: Path) -> int:
    """Return the bytes of all segments of this version, whichever process writes them. Raises OSError."""
    return sum(_size(path) for path in segments_in(directory))


def untaken_in(directory: Path) -> int:
    """Return the bytes that no store has. Raises OSError."""
    keys = keys_of(directory)
    return sum(
        max(0, _size(path) - max((read_cursor(path, key) for key in keys), default=0))
        for path in segments_in(directory)
    )


def above(directory: Path, limit: int) -> Iterator[tuple[Path, frozenset[str]]]:
    """Yield what to give up for which stores, as much as it takes to come below a limit. Raises OSError.

    Only segments that some store has: first those that all have, then those that only the store furthest behind lacks,
    the oldest first. One that is behind for a moment comes last.
    """
    keys, behind, lackers = keys_of(directory), Counter[str](), dict[Path, frozenset[str]]()
    sizes = {path: _size(path) for path in segments_in(directory)}
    for path, size in sizes.items():
        lacked = {key: size - cursor for key in keys if (cursor := read_cursor(path, key)) < size}
        behind.update(lacked)
        lackers[path] = frozenset(lacked)
    excess = sum(sizes.values()) - limit
    for path in sorted(sizes, key=lambda path: -min((behind[key] for key in lackers[path]), default=inf)):
        if excess > 0 and sizes[path] and lackers[path] < keys:
            excess -= sizes[path]
            yield path, lackers[path]


def oldest(directory: Path, key: str | None) -> int | None:
    """Return when the oldest segment was created that a store lacks, or that exists where `key` is None."""
    paths = (path for path in segments_in(directory) if key is None or read_cursor(path, key) < _size(path))
    return next(map(created_ns, paths), None)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _files(directory: Path) -> list[Path]:
    # Not by `glob`, which leaves a compiled pattern for each directory in the cache of `re`.
    try:
        return list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


class WaitingSegment(NamedTuple):
    """The records of one segment that a store does not have."""

    path: Path
    records: int
    held: bool
    """Whether a running process holds the segment, and delivers it."""


def waiting(directory: Path, key: str) -> list[WaitingSegment]:
    """Return the segments of a directory with records that wait for a store, the oldest first. Raises OSError."""
    return [
        WaitingSegment(path, records, is_locked(path))
        for path in segments_in(directory)
        if (records := count_records(path, read_cursor(path, key)))
    ]


def count_records(path: Path, offset: int) -> int:
    """Return how many records a segment has from an offset on; 0 for another user's. Raises OSError."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return sum(line.payload != b"" for line in lines_in(file.read(), 0))
    except (FileNotFoundError, PermissionError):
        return 0


def is_on_network(directory: Path) -> bool:
    """Return whether a directory lies on a network file system, where locks and appends cannot be relied on."""
    try:
        mounts = [line.split()[1:3] for line in _MOUNTS.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        return False  # not Linux
    place = directory.resolve()
    holding = [(path, kind) for path, kind in mounts if place.is_relative_to(path.replace(r"\040", " "))]
    # The last of several at one place is the one in use, as on a mount that is made on demand.
    _, kind = max(reversed(holding), key=lambda mount: len(mount[0]), default=("", ""))
    return kind.startswith(_NETWORK)


def adopt(path: Path) -> Segment | None:
    """Lock a segment that an ended process has left; None where a process holds it, or for stores that are unknown."""
    keys = keys_of(path.parent)
    return Segment.adopt(path, keys) if keys else None


def erase(directory: Path, is_gone: Callable[[bytes], bool]) -> int:
    """Erase the records of which `is_gone` is true, delivered or not, and return how many. Raises OSError.

    Also those of running processes. A line becomes as many spaces: offsets stay, and readers pass over it. A damaged
    line is looked at as it stands, and so are those of rejected records, which have no checksum.
    """
    return sum(_erase_in(path, is_gone) for path in (*segments_in(directory), directory / REJECTED_FILE))


def _erase_in(path: Path, is_gone: Callable[[bytes], bool]) -> int:
    erased = 0
    # A descriptor of its own: a write through the one that appends would append.
    with suppress(FileNotFoundError), opened(path, os.O_RDWR) as descriptor:
        data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        for start, end, whole in lines_in(data, 0):
            payload = data[start : end - 1] if whole is None else whole
            if payload and is_gone(payload):
                os.pwrite(descriptor, b" " * (end - 1 - start), start)
                erased += 1
        if erased:
            os.fsync(descriptor)
    return erased
