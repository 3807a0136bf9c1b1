"""``python -m analysis.page``: write results/index.html from the records that are there."""

from __future__ import annotations

from analysis import page
from analysis.commands import Parser, command
from analysis.results import RESULTS


@command("analysis.page")
def main(argv: list[str] | None = None) -> int:
    Parser(prog="python -m analysis.page", description=__doc__).parse_args(argv)
    if not any(RESULTS.glob("*/record.json")):
        raise ValueError(f"there are no results in {RESULTS}; run an analysis with --report first")
    print(page.write())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
