"""Controls callgrind from inside the process: counts instructions and allocations of a piece of work on this thread.

A request to valgrind is a sequence of instructions that does nothing on a real processor. Python cannot utter it, so
it is put into a page of memory and called; that works on x86-64 only.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_CODE = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")
"""rax = arguments; edx = 0; four rotations of rdi by 128 bits together; xchg rbx, rbx; return rdx."""
_CALLGRIND = (ord("C") << 24) | (ord("T") << 16)
_ZERO, _DUMP_AT, _START, _STOP = (_CALLGRIND + number for number in (1, 3, 4, 5))
_ALLOCATORS = re.compile(r"^c?fn=\((\d+)\)(?: (.*))?$")
_ALLOCATING = ("_PyObject_Malloc", "_PyObject_Calloc", "_PyObject_Realloc")
"""Where every allocation of CPython's ends up that a free list does not serve."""


@dataclass(frozen=True)
class Counted:
    """Of one stretch of work: instructions, and calls of Python's allocator (None: the names are not in the binary)."""

    instructions: int
    allocations: int | None


def usable() -> bool:
    """Whether work can be counted here."""
    return platform.machine() == "x86_64" and shutil.which("valgrind") is not None


def run(python: str, arguments: list[str], directory: Path, environment: dict[str, str]) -> None:
    """Run a Python program under callgrind, which counts nothing until it is switched on."""
    command = [
        "valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes", "--dump-line=no",
        f"--callgrind-out-file={directory / 'out'}", python, *arguments,
    ]  # fmt: skip
    subprocess.run(command, check=True, env=environment, stderr=sys.stderr)


class Counter:
    """Counts stretches of work in a process that `run` has started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._page.write(_CODE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self._call = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)(address)
        self._label = ctypes.create_string_buffer(b"counted")
        self._dumps = 0

    def count(self, work: Callable[[], object]) -> Counted:
        """Do the work and return what it took."""
        self._ask(_START)
        self._ask(_ZERO)
        work()
        self._ask(_DUMP_AT, ctypes.addressof(self._label))
        self._ask(_STOP)
        self._dumps += 1
        return _read(self._directory / f"out.{self._dumps}-01")

    def _ask(self, request: int, argument: int = 0) -> None:
        arguments = (ctypes.c_ulong * 6)(request, argument)
        self._call(ctypes.addressof(arguments))


def _read(dump: Path) -> Counted:
    instructions, allocations, known = 0, 0, set[str]()
    called = ""
    with dump.open() as lines:
        for line in lines:
            if line.startswith("summary:"):
                instructions = int(line.split()[1])
            elif found := _ALLOCATORS.match(line):
                if found[2] in _ALLOCATING:
                    known.add(found[1])
                called = found[1] if line.startswith("cfn") else ""
            elif line.startswith("calls=") and called in known:
                allocations += int(line[6:].split()[0])
    dump.unlink()
    return Counted(instructions, allocations if known else None)
