"""Models take turns (A B A B), so that other load on the machine affects all of them alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

LEAST_ROUNDS = 5  # rounds that a limit in seconds leaves


class Patience(NamedTuple):
    """How long to measure.

    rounds: turns of each; warmup: rounds before, not counted (compilation falls into the first)
    seconds: no new round after so many seconds of rounds, once there are five
    turn: the first one's turn is as many calls as fill so many seconds; the others make as many
    """

    rounds: int = 9
    warmup: int = 2
    seconds: float | None = None
    turn: float = 0.1


USUAL = Patience()


class Turns(NamedTuple):
    """Seconds of a call, (runners, rounds), and how many calls a turn was."""

    seconds: list[list[float]]
    calls: int


def take_turns(
    runs: Sequence[Callable[[], object]],
    patience: Patience = USUAL,
    finish: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    progress: str | None = None,
) -> Turns:
    """Every runner in each round, in the same order; ``finish`` waits for what a turn has set going."""
    calls = 1

    def turn(run: Callable[[], object]) -> float:
        start = clock()
        for _ in range(calls):
            run()
        finish()
        return (clock() - start) / calls

    for _ in range(patience.warmup):
        warm = [turn(run) for run in runs]
    if patience.warmup:
        calls = max(1, math.ceil(patience.turn / warm[0])) if warm[0] > 0 else 1
    seconds: list[list[float]] = [[] for _ in runs]
    begin = clock()
    for done in shown(patience.rounds, progress):
        if patience.seconds is not None and done >= LEAST_ROUNDS and clock() - begin >= patience.seconds:
            break
        for run, times in zip(runs, seconds, strict=True):
            times.append(turn(run))
    return Turns(seconds, calls)


def shown(rounds: int, progress: str | None):
    if progress is None:
        return range(rounds)
    from tqdm import tqdm

    return tqdm(range(rounds), desc=progress, leave=False, unit="round")
