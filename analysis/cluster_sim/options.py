"""The options of a run, the cells of a grid, and where finished cells are kept."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from analysis.cluster_sim.geometry import Problem, problem, sigma_for

LEVELS = ("quick", "default", "full")
FORMAT = 1  # raise it when the meaning of a stored cell changes


@dataclass(frozen=True)
class Options:
    """How much to run, from which seed, and on which device and backend."""

    level: str = "default"
    trials: int | None = None  # None: as many as each experiment needs
    seed: int = 0
    device: str = "cpu"
    jobs: int = 0  # 0: one per core
    backend: str = "threading"
    store: Path | None = None  # finished cells are kept here and not run again
    progress: bool = False

    def pick(self, quick, default, full):
        """The value for this level."""
        return {"quick": quick, "default": default, "full": full}[self.level]

    def count(self, default: int) -> int:
        return self.trials or default


@dataclass(frozen=True)
class SimulatedCell:
    """One setting of a grid; θ in radians, λ the theorem's unless given."""

    K: int = 16
    d: int = 256
    n: int = 1024
    theta: float = math.pi / 4
    sigma: float = 1.0
    gamma: float = 0.0
    init: str = "out_of_span"
    lam: float | None = None
    trials: int = 100
    seed: int = 0

    def problem(self) -> Problem:
        if not self.n > 0:
            raise ValueError(f"n must be positive, got {self.n}")
        if not self.trials >= 2:
            raise ValueError(f"trials must be at least 2 for a standard error, got {self.trials}")
        return problem(
            self.K, self.d, self.theta, self.sigma, self.gamma, self.init, self.lam, seed=self.seed
        )

    @property
    def key(self) -> str:
        """A hash of the configuration: the name of its result, and the seed of its stream."""
        text = json.dumps([FORMAT, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def stream(self) -> int:
        return int(self.key[:15], 16)


def variance_cells(
    options: Options,
    sizes: Iterable[int],
    ratios: Iterable[float],
    K: int,
    d: int,
    theta: float,
    work: float,
    trials: tuple[int, int],
) -> list[SimulatedCell]:
    """A cell for each n in ``sizes`` and v = ratio · ln n: σ is set so that the logits have that variance.

    work: tokens to draw in a cell, which gives its trials within the limits ``trials``
    """
    return [
        SimulatedCell(
            K=K,
            d=d,
            n=n,
            theta=theta,
            sigma=sigma_for(ratio * math.log(n), K, d, theta),
            trials=options.trials or int(min(max(work / (n * K), trials[0]), trials[1])),
            seed=options.seed,
        )
        for n in sizes
        for ratio in ratios
    ]


class Store:
    """Finished cells as ``KEY.json`` in a folder; a file appears whole or not at all."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def read(self, cell: SimulatedCell) -> dict | None:
        path = self.folder / f"{cell.key}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def write(self, cell: SimulatedCell, row: dict) -> None:
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(row, file, allow_nan=False)
        os.replace(name, self.folder / f"{cell.key}.json")
