"""``python -m analysis.coverage``: every table, figure, equation and theorem of both papers, and where it stands here.

fidelity   exact: the same number or formula; corrected: exact, once an erratum is mended; real model: from real
           weights, nothing trained from scratch; small models: trained here, on small data; printed: quoted alone

python -m analysis.coverage
python -m analysis.coverage --markdown
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from analysis import formats
from analysis.commands import Parser, command
from analysis.results import PAPER

if TYPE_CHECKING:
    import pandas as pd

ITEMS = {  # what the papers number
    "STViT": {"Figure": 4, "Table": 15, "Equation": 13, "Theorem": 1},
    "BAT": {"Figure": 6, "Table": 4, "Equation": 8},
}


def table() -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(PAPER / "coverage.csv")


@command("analysis.coverage")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m analysis.coverage", description=__doc__)
    formats.add_arguments(parser)
    args: argparse.Namespace = parser.parse_args(argv)
    frame = table()
    if not formats.emit(frame, args):
        print(formats.render(frame))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
