"""What command lines share: errors as one line (``--debug`` shows the rest), checks of numbers and devices."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Callable, Mapping

import torch

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


def check_numbers(args: argparse.Namespace, lowest: Mapping[str, int]) -> None:
    """ValueError for an option below its lowest value."""
    for name, value in lowest.items():
        if getattr(args, name) < value:
            raise ValueError(
                f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be {value} or more"
            )


def open_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name} cannot be used here: {one_line(error)}") from error
    return device
