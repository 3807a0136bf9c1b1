"""Python processes that need not import torch again: they branch off a process that has done so and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from multiprocessing import forkserver
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["stvit"])
TRAIN = "import sys; from stvit.train import main; sys.exit(main(sys.argv[1:]))"


def branch(
    code: str, *words: object, said: str | Path = os.devnull, **environment: str
) -> multiprocessing.Process:
    """``python -c code words``, started; what it prints goes to the file ``said``."""
    here = Path.cwd()
    os.chdir(ROOT)  # where the common ancestor finds the package, if it is not there yet
    try:
        forkserver.ensure_running()
    finally:
        os.chdir(here)
    process = CONTEXT.Process(target=_execute, args=(code, list(map(str, words)), str(said), environment))
    process.start()
    return process


def branch_twice(code: str, *words: object, said: str | Path = os.devnull) -> list[multiprocessing.Process]:
    """Two processes of one training, as ``torchrun`` starts them; the first one's words are in ``said``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]), WORLD_SIZE="2")
    place.update(LOCAL_WORLD_SIZE="2", GLOO_SOCKET_IFNAME="lo")
    files = said, os.devnull
    return [
        branch(code, *words, said=files[rank], RANK=str(rank), LOCAL_RANK=str(rank), **place)
        for rank in (0, 1)
    ]


def _execute(code: str, words: list[str], said: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1), os.dup2(file, 2)
    sys.argv = ["-c", *words]
    exec(compile(code, "<branch>", "exec"), {"__name__": "__main__"})
