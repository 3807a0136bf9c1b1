"""How the commands of ``analysis`` end: an error is one line and exit code 2, and a closed pipe is no error.

    @command("analysis.complexity")
    def main(argv: list[str] | None = None) -> int: ...

With the environment variable STVIT_DEBUG set, an error is shown with its traceback instead.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

BAD_REQUEST = 2
PIPE_CLOSED = 128 + 13  # what a shell reports for a program that SIGPIPE ended


class Parser(argparse.ArgumentParser):
    """Keeps the lines of a description, says what is wrong in one line, and gives each ``--report`` a ``--pdf``."""

    pdf: Path | None = None  # the folder that the last command line named

    def __init__(self, **options):
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def add_argument(self, *names, **options):
        added = super().add_argument(*names, **options)
        if "--report" in names:
            help = "with --report, its figures as vectors for LaTeX too, NAME-FIGURE.pdf"
            super().add_argument("--pdf", type=new_folder, metavar="FOLDER", help=help)
        return added

    def parse_args(self, *args, **options):
        found = super().parse_args(*args, **options)
        Parser.pdf = getattr(found, "pdf", None)
        return found

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_REQUEST, f"{self.prog}: {message}\n")


def command(name: str) -> Callable:
    """Wrap ``main(argv)`` of ``python -m NAME``: errors that a user can fix become one line."""

    def wrap(main: Callable[[list[str] | None], int | None]) -> Callable[[list[str] | None], int]:
        @functools.wraps(main)
        def run(argv: list[str] | None = None) -> int:
            try:
                status = main(argv)
                sys.stdout.flush()
                return status or 0
            except BrokenPipeError:  # the reader, such as head, has seen enough
                with contextlib.suppress(OSError, ValueError):  # Python flushes once more at exit
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return PIPE_CLOSED
            except (ValueError, OSError, RuntimeError) as error:
                if os.environ.get("STVIT_DEBUG"):
                    raise
                sys.stderr.write(f"python -m {name}: {one_line(error)}\n")
                raise SystemExit(BAD_REQUEST) from None

        return run

    return wrap


def one_line(error: BaseException) -> str:
    """The first line of an error; of a file's error the file and the reason."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def at_least(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number that is not below ``least``."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {value}")
        return value

    return number


def old_file(text: str) -> Path:
    """An argparse type: a file that exists."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def new_file(text: str) -> str:
    """An argparse type: a file that can be written, checked before any work is done; ``-`` is stdout."""
    path = Path(text)
    if text == "-":
        return text
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder, not a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent} to write {path.name} to")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written")
    return text


def new_folder(text: str) -> Path:
    """An argparse type: a folder that exists or can be made."""
    path = Path(text)
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise argparse.ArgumentTypeError(f"{there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{there} cannot be written to")
    return path


def write_text(text: str, target: str | Path) -> None:
    """To standard output (``-``) or a file, which is replaced as a whole or left as it was."""
    if str(target) == "-":
        sys.stdout.write(text)
        return
    path = Path(target)
    if path.exists() and not path.is_file():  # a device or a named pipe
        path.write_text(text, encoding="utf-8")
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
