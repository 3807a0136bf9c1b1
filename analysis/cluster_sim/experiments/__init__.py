"""The eleven experiments, in the order of the page. Each file answers one question with

``compute(options) -> frame``, ``plot(frame) -> figure``, ``words(frame) -> str``, TITLE, CAPTION and ALT;
``condense(frame) -> frame``, where the frame is long, is what the page and the terminal show. TIMED names the
columns that are timings.
"""

from __future__ import annotations

import importlib
from types import ModuleType

NAMES = (
    "lemmas",
    "grid",
    "slopes",
    "temperature",
    "regimes",
    "failures",
    "iteration",
    "initialisation",
    "heads",
    "baselines",
    "cost",
)


def experiment(name: str) -> ModuleType:
    if name not in NAMES:
        raise ValueError(f"unknown experiment {name!r}; choose from {', '.join(NAMES)}")
    return importlib.import_module(f"analysis.cluster_sim.experiments.{name}")


def shown(module: ModuleType, frame):
    """The table that people see: condensed where the experiment says how."""
    return module.condense(frame) if hasattr(module, "condense") else frame
