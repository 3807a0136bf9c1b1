"""One training at a time in a folder: a lock that goes when its process does, however it ends."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system: no lock
    fcntl = None

NAME = ".lock"


class FolderLock:
    """Held by this process until ``release``; ValueError where another process holds it.

    The lock is the kernel's, on an open file: it cannot go stale, and worker processes do not inherit it. The
    file holds the number of the process, for the message alone.
    """

    def __init__(self, folder: Path):
        self.path, self.file = folder / NAME, None
        while fcntl is not None and self.file is None:
            self.file = self._acquire()

    def _acquire(self):
        file = self.path.open("a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            file.close()
            raise ValueError(
                f"another training is running in {self.path.parent} (process {holder or 'unknown'}); wait for it, or "
                "name another --out"
            ) from None
        except OSError:  # a file system without locks
            return file
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(file.fileno()).st_ino == self.path.stat().st_ino:
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
                return file
        file.close()  # its holder removed it in between
        return None

    def release(self) -> None:
        if self.file is not None:
            self.path.unlink(missing_ok=True)
            self.file.close()
            self.file = None
