"""``python -m analysis.distilled``: students of DINOv2-S, trained without labels to give its class feature.

python -m analysis.distilled pilot            the learning rate, on STViT alone and a seed of its own
python -m analysis.distilled run              train what has no record yet; stop and repeat as you like
python -m analysis.distilled ship             train those students that the package ships and that have no file yet
python -m analysis.distilled probe            a linear probe on these students' features, Fashion-MNIST
python -m analysis.distilled pack --folder OUT   write the photographs to a folder, for a machine without them
python -m analysis.distilled list             what the grid holds and how much of it is finished
python -m analysis.distilled --report         tables and verdicts: results/distilled
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import chain
from pathlib import Path

from analysis import formats
from analysis.commands import Parser, command
from analysis.distilled import cells, curve
from analysis.distilled.cells import Cell
from analysis.distilled.design import BASE, LOOKED_AT_TWICE, MORE_SEEDS, ROWS, SCALES, SEEDS, TIERS

PILOT_SEED, PILOT_RATES = 90, (2.5e-5, 5e-5, 1e-4, 2e-4, 6e-4)  # one rate for all parameters


EARLY = 4  # tiers before the learning curve


def plan(scale: str) -> list[Cell]:
    """All cells by priority: of a tier all seeds, then the next tier; the learning curve in between."""
    tiers = [[Cell(row, seed, scale=SCALES[scale]) for seed in SEEDS for row in tier] for tier in TIERS]
    first, early, late = tiers[0], tiers[1:EARLY], tiers[EARLY:]
    if scale != "grid":
        return list(chain(*tiers))
    return [
        *first,
        *curve.untrained(),
        *chain(*early),
        *curve.trained(SEEDS[:1]),
        *chain(*late),
        *curve.trained(),
        *(Cell(ROWS[name], seed) for name in LOOKED_AT_TWICE for seed in MORE_SEEDS),
    ]


def pilots() -> list[Cell]:
    return [Cell(ROWS[BASE], PILOT_SEED, dict(lr=rate, backbone_rate=1.0)) for rate in PILOT_RATES]


def run(wanted: list[Cell], args: argparse.Namespace) -> int:
    missing = [cell for cell in wanted if cells.read(cell, args.cells) is None]
    begun = time.monotonic()
    if missing:
        world = cells.open_world(args.cache, args.folder, SCALES[args.scale], args.device)
    for number, cell in enumerate(missing, 1):
        if args.minutes and number > 1 and time.monotonic() - begun > 60 * args.minutes:
            break
        record = cells.run(cell, world, args.cells)
        said = f"cosine {record['cosine']:.4f}, {record['seconds']['all_cpu']:.0f} CPU seconds"
        print(
            f"[{number}/{len(missing)}] {cell.row.name}, seed {cell.seed}: {said}",
            file=sys.stderr,
            flush=True,
        )
    return 0


def listed(args: argparse.Namespace) -> int:
    import pandas as pd

    lines = []
    for number, tier in enumerate(TIERS, 1):
        for row in tier:
            done = sum(cells.read(Cell(row, seed), args.cells) is not None for seed in SEEDS)
            lines.append({"tier": number, "row": row.name, "seeds": done})
    print(formats.render(pd.DataFrame(lines)))
    return 0


@command("analysis.distilled")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m analysis.distilled",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "action", nargs="?", choices=("pilot", "run", "ship", "probe", "pack", "list"), default="list"
    )
    parser.add_argument("--report", action="store_true", help="write results/distilled from the cells")
    parser.add_argument("--cells", type=Path, default=cells.CELLS, help="folder of the records")
    parser.add_argument(
        "--cache", type=Path, default=cells.CACHE, help="folder of crops and the teacher's tokens"
    )
    parser.add_argument("--scale", choices=SCALES, default="grid", help="how much is learned from (grid)")
    parser.add_argument("--device", choices=cells.DEVICES, default="cpu", help="that trains (cpu)")
    parser.add_argument("--folder", default="", help="what pack wrote, or photographs of your own")
    parser.add_argument(
        "--minutes", type=float, default=0, help="begin no second cell after so many (0: all)"
    )
    parser.add_argument("--out", type=Path, help="folder for the report")
    args = parser.parse_args(argv)
    if args.report:
        from analysis.distilled import report

        return report.write(args.out, args.cells)
    if args.action == "list":
        return listed(args)
    if args.action == "pack":
        from analysis.distilled.images import pack

        print(pack(Path(args.folder or "photographs")))
        return 0
    if args.action == "ship":
        from analysis.distilled.ship import missing, ship

        wanted = missing()
        world = cells.open_world(args.cache, args.folder) if wanted else None
        for name in wanted:
            print(ship(name, world, args.cache / "ship" / name))
        return 0
    if args.action == "probe":
        from analysis.distilled.probes import run as run_probes

        print(run_probes(args.cache))
        return 0
    if args.action == "pilot":
        args.cells = cells.PILOT
    return run(pilots() if args.action == "pilot" else plan(args.scale), args)


if __name__ == "__main__":
    raise SystemExit(main())
