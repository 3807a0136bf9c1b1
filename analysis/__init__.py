"""Analyses of token-sparsified vision transformers; each runs as ``python -m analysis.NAME``.

Importing this package costs nothing: torch, pandas and matplotlib are paid for only by the
functions that use them. Where packages are missing, one line says how to install them.
"""

import sys
from importlib.util import find_spec

NEEDED = (
    "accelerate", "torchmetrics", "sklearn", "matplotlib", "psutil", "tqdm", "pandas", "scipy", "seaborn", "fvcore",
    "joblib", "tabulate", "jinja2", "markdown",
)  # fmt: skip


def check_installed(packages: tuple[str, ...] = NEEDED) -> None:
    """Stop where one of the packages is not installed; a command prints that line alone."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        line = f"the analyses need {', '.join(missing)}, not installed: pip install 'stvit[analysis]'"
        raise SystemExit(line) if sys.argv[:1] == ["-m"] else ImportError(line)


check_installed()
