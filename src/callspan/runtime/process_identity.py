"""Process identity: who a process is, and whether it still runs.

A process id is used again, and every container has its own; a host's name is shared by containers, and changes. So a
process is its boot, its namespace of process ids, its id, and when it started, all as the kernel states them. Where
no container hides it, the machine is stated too: its processes of before a restart have exited.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

UNKNOWN_AFTER_S: Final = 3600
"""If a process cannot be seen from here, its state is unknown after this many seconds without a sign of life."""
State: TypeAlias = Literal["runs", "exited", "elsewhere"]
"""`elsewhere`: on another host, in another container, or before a restart of an unknown machine."""
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE: Final = Path("/proc/self/ns/pid")
_SELF: Final = Path("/proc/self")
_MACHINE: Final = Path("/etc/machine-id")
_NO_CONTAINER: Final = "/4026531836"
"""The namespace that Linux makes first. A container has the machine id of its image, as many others have."""
_MACHINE_DIGITS: Final = 12
_STARTED: Final = 19
"""Position of the start time after the name, in parentheses, of `/proc/<pid>/stat`."""
_ENDED: Final = (b"Z", b"X")
_BY_PID: Final = (1, 14, 1)
"""CTL_KERN, KERN_PROC, KERN_PROC_PID of macOS."""
_TIME: Final = struct.Struct("<qi")
"""Seconds and microseconds at the start of `kinfo_proc`."""
_ROOM: Final = 4096


class ProcessIdentity(NamedTuple):
    """One process."""

    namespace: str
    """Boot and namespace: within one, an id and a start time belong to one process."""
    pid: int
    started: str
    """As the kernel states it, from no clock that may be set."""
    machine: str = ""
    """A digest, which stays the same over restarts; "" if unknown."""

    def __str__(self) -> str:
        """Return it as records state it."""
        return f"{self.namespace}/{self.pid}/{self.started}{self.machine and '@'}{self.machine}"


def own_identity() -> str | None:
    """Return the identity of this process as text; None if its kernel does not state it."""
    return cached_identity_of(os.getpid())


def identity_of(pid: int | None) -> str | None:
    """Return the identity of a running process of this namespace as text; None if its kernel does not state it."""
    namespace, started = own_namespace(), _started(pid) if pid else None
    return str(ProcessIdentity(namespace, pid, started, own_machine())) if pid and namespace and started else None


cached_identity_of: Final = cache(identity_of)
"""The same, of this process and of those that it was forked from."""


@cache
def own_namespace() -> str | None:
    """Return the boot and namespace of this process; None if its kernel does not state them."""
    try:
        if sys.platform == "darwin":
            return _sysctl_text("kern.bootsessionuuid")
        # UTF-8, because its codec needs no import.
        return f"{_BOOT.read_bytes().decode().strip()}/{_NAMESPACE.readlink().name[5:-1]}"
    except (OSError, UnicodeDecodeError, AttributeError):
        return None


@cache
def own_machine() -> str:
    """Return what stays the same when this machine is started again; "" if it is unknown, as in a container.

    It is a digest, because a machine's id is not for others, and one with the host's name, because copied disks have
    the same id.
    """
    if not (own_namespace() or "").endswith(_NO_CONTAINER):
        return ""
    try:
        machine = _MACHINE.read_bytes().strip()
    except OSError:
        return ""
    digest = sha256(machine + b" " + os.fsencode(os.uname().nodename))
    return digest.hexdigest()[:_MACHINE_DIGITS] if machine else ""


def parse(text: str | None) -> ProcessIdentity | None:
    """Return the identity that a record states, or None."""
    text, _, machine = (text or "").partition("@")
    namespace, _, started = text.rpartition("/")
    namespace, _, pid = namespace.rpartition("/")
    is_pid = pid.isascii() and pid.isdigit() and 0 < int(pid[:20]) < 2**31
    return ProcessIdentity(namespace, int(pid), started, machine) if namespace and started and is_pid else None


def state_of(text: str | None) -> State:
    """Return the state of a process, given what its record states."""
    identity = parse(text)
    if identity is None or identity.namespace != own_namespace():
        is_of_machine = identity is not None and identity.machine == own_machine() != ""
        return "exited" if is_of_machine else "elsewhere"
    try:
        os.kill(identity.pid, 0)
    except ProcessLookupError:
        return "exited"
    except OSError:
        pass  # another user's process
    return "runs" if _started(identity.pid) in (None, identity.started) else "exited"


def _started(pid: int) -> str | None:
    """Return when a process of this namespace started; "" if it has exited; None if that cannot be read."""
    try:
        if sys.platform == "darwin":
            return started_in(_sysctl((*_BY_PID, pid)))
        # A container may see the processes of its host there.
        if _SELF.readlink().name != str(os.getpid()):
            return None
        return started_of(Path(f"/proc/{pid}/stat").read_bytes())
    except (OSError, AttributeError):
        return None


def started_of(stat: bytes) -> str | None:
    """Return the start time in `/proc/<pid>/stat`; "" of a process that has exited and still has its entry."""
    fields = stat.rpartition(b")")[2].split()
    if len(fields) <= _STARTED or not fields[_STARTED].isdigit():
        return None
    return "" if fields[0] in _ENDED else fields[_STARTED].decode()


def started_in(kinfo: bytes) -> str | None:
    """Return the start time in macOS's `kinfo_proc`; "" if there is no such process, None if it is not understood."""
    if not kinfo:
        return ""
    seconds, microseconds = _TIME.unpack_from(kinfo) if len(kinfo) >= _TIME.size else (0, 0)
    return f"{seconds}.{microseconds:06d}" if seconds > 0 else None


def _sysctl(mib: tuple[int, ...]) -> bytes:
    """Return a value of macOS's kernel. Raises OSError."""
    names, data, size = (ctypes.c_int * len(mib))(*mib), ctypes.create_string_buffer(_ROOM), ctypes.c_size_t(_ROOM)
    if ctypes.CDLL(None, use_errno=True).sysctl(names, len(mib), data, ctypes.byref(size), None, 0):
        raise OSError(ctypes.get_errno(), "sysctl")
    return data.raw[: size.value]


def _sysctl_text(name: str) -> str | None:
    data, size = ctypes.create_string_buffer(_ROOM), ctypes.c_size_t(_ROOM)
    if ctypes.CDLL(None, use_errno=True).sysctlbyname(name.encode(), data, ctypes.byref(size), None, 0):
        raise OSError(ctypes.get_errno(), name)
    return data.value.decode(errors="replace") or None
