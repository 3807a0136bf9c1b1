"""Errors as one line, for command lines; ``--debug`` shows the rest."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable

LAST = re.compile(r"^(?:[\w.]+(?:Error|Exception)|[\w.]+): ?(.*)$")


def one_line(error: BaseException) -> str:
    """What went wrong: of an error in a worker process the last line, which is the original message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if "Traceback (most recent call last):" in str(error):
        found = LAST.match(lines[-1])
        return found[1] if found and found[1] else lines[-1]
    return lines[0] if not isinstance(error, KeyError) else f"KeyError: {lines[0]}"


def run_command(command: Callable[[], int | None], status: int, debug: bool = False, stream=None) -> int:
    """The exit status of ``command``; an error becomes one line and ``status``, or a traceback with ``debug``."""
    try:
        return command() or 0
    except BrokenPipeError:  # the reader, such as head, has seen enough
        with contextlib.suppress(OSError, ValueError):  # Python flushes once more at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        print(f"error: {one_line(error)}", file=stream or sys.stderr)
        return status
