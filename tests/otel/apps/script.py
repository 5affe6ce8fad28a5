"""A plain script: makes calls, of both SDKs if it simply ends, and ends in the requested way."""

import os
import signal
import sys


def main(count: int, ending: str) -> None:
    if ending == "late-instrumentation":
        import openai  # noqa: F401
        from opentelemetry.instrumentation.auto_instrumentation import initialize

        initialize()
    if ending == "suppressed":
        from opentelemetry.instrumentation.utils import suppress_instrumentation

        with suppress_instrumentation():
            calls(count, both=False)
        return
    calls(count, both=ending in ("return", "late-instrumentation"))
    if ending == "graceful-sigterm":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if "sigterm" in ending:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    if ending == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)


def calls(count: int, *, both: bool) -> None:
    from calling import ask, ask_claude

    for number in range(count):
        ask(f"question {number}")
        if both:
            ask_claude(f"question {number}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "return")
