"""Makes this process look like Windows to what is imported from now on: it hides POSIX modules and functions."""

# What the standard library and other packages import must be there before.
import asyncio
import os
import signal
import socket
import sys

import anyio._backends._asyncio  # noqa: F401
import openai
import opentelemetry.instrumentation.instrumentor
import opentelemetry.sdk.trace.export  # noqa: F401

LOOP = asyncio.new_event_loop()
for client in (openai.OpenAI, openai.AsyncOpenAI):
    client(api_key="k")

for module in ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[module] = None  # type: ignore[assignment]
_FUNCTIONS = """
O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK WNOHANG chown fchmod fchown fork forkpty geteuid getgid getloadavg
getpgid getuid killpg mkfifo posix_fallocate pread pwrite register_at_fork sched_getaffinity setsid statvfs
sysconf waitid
"""
for name in _FUNCTIONS.split():
    if hasattr(os, name):
        delattr(os, name)
for name in (
    "SIGALRM",
    "SIGCHLD",
    "SIGHUP",
    "SIGKILL",
    "SIGQUIT",
    "SIGUSR1",
    "SIGUSR2",
    "pthread_sigmask",
    "setitimer",
):
    delattr(signal, name)
del socket.AF_UNIX
sys.platform = "win32"
