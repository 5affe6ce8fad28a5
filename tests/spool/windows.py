"""An emulation of Windows: `import windows` removes Unix-only modules and adds `msvcrt`; started by the tests.

Byte locks there belong to the open file and keep others out, as those of Linux do that are called "open file
description locks"; the rest of the stand-in is what is missing.
"""

from __future__ import annotations

import asyncio.subprocess
import errno
import fcntl
import multiprocessing.util
import os
import platform
import socket
import struct
import subprocess
import sys
import time
import types

import anthropic  # the SDKs and all they need ask for the platform, too
import httpx
import openai
import opentelemetry.sdk.trace

SDKS = (anthropic, asyncio.subprocess, httpx, multiprocessing.util, openai, opentelemetry.sdk.trace, subprocess)
_SET_LOCK = 37
_LK_LOCK, _LK_NBLCK, _LK_UNLCK = 1, 2, 0


def _locking(descriptor: int, mode: int, size: int) -> None:
    start = os.lseek(descriptor, 0, os.SEEK_CUR)
    kind = fcntl.F_UNLCK if mode == _LK_UNLCK else fcntl.F_WRLCK
    for _ in range(11 if mode == _LK_LOCK else 1):
        try:
            fcntl.fcntl(descriptor, _SET_LOCK, struct.pack("@hhqqi4x", kind, os.SEEK_SET, start, size, 0))
        except BlockingIOError:
            time.sleep(0.02 if mode == _LK_LOCK else 0)
        else:
            return
    raise OSError(errno.EDEADLOCK if mode == _LK_LOCK else errno.EACCES, "locked")


platform.uname()
msvcrt = types.ModuleType("msvcrt")
vars(msvcrt).update(LK_LOCK=_LK_LOCK, LK_NBLCK=_LK_NBLCK, LK_UNLCK=_LK_UNLCK, locking=_locking)
sys.modules["msvcrt"] = msvcrt
for name in ("fcntl", "resource", "pwd", "grp", "termios", "_posixsubprocess"):
    sys.modules[name] = None  # type: ignore[assignment]
for owner, names in (
    (
        os,
        (
            "fork",
            "forkpty",
            "register_at_fork",
            "pread",
            "pwrite",
            "fdatasync",
            "getuid",
            "geteuid",
            "uname",
            "O_CLOEXEC",
        ),
    ),
    (socket, ("AF_UNIX",)),
):
    for name in names:
        vars(owner).pop(name, None)
sys.platform = "win32"
