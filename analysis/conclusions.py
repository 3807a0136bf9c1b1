"""``python -m analysis.conclusions``: what the papers conclude, according to each source of evidence here.

A source is a report that judges conclusions, read from its ``conclusions.csv``: a real model distilled, real labels
from scratch, drawn scenes from scratch. ``together`` says "holds" or "does not hold" where a source does and
none says the opposite, "sources differ" where they disagree, and else that none can decide. It summarises these
sources and is no test of its own: how much each can show is in its report, with the differences.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import formats
from analysis.commands import Parser, command, new_folder
from analysis.results import RESULTS
from analysis.shared.verdicts import FAILS, HOLDS, NOT_RUN, OPEN

if TYPE_CHECKING:
    import pandas as pd

SOURCES = {
    "distilled": "real model, distilled",
    "real_labels": "real labels",
    "ablations": "scenes",
}  # folder → name
DIFFER, NO_SOURCE = "sources differ", "not asked"
FILE = "conclusions.csv"
ABOUT = (
    "Each source judges by differences of its own rows, which its report shows, and pays for all comparisons that it "
    "makes (Holm's correction). *together* is a verdict that some source reaches and none contradicts; it is a word "
    "about these sources, and no test of its own."
)
LACKING = "no report has judged conclusions yet: python -m analysis.ablations --report does"


def files(results: Path = RESULTS) -> dict[str, Path]:
    """The tables of verdicts that are there, by their source's name."""
    return {
        name: results / folder / FILE
        for folder, name in SOURCES.items()
        if (results / folder / FILE).exists()
    }


def side_by_side(results: Path = RESULTS) -> pd.DataFrame:
    """A line a conclusion (table and words), a column a source, and the word that they give together."""
    import pandas as pd

    found: dict[tuple[str, str], dict[str, str]] = {}
    sources = files(results)
    for name, path in reversed(sources.items()):  # the source with most tables gives the order
        for line in pd.read_csv(path).to_dict("records"):
            verdict = line.get("corrected", line["verdict"])
            found.setdefault((line["table"], line["conclusion"]), {})[name] = verdict
    tables = list(dict.fromkeys(table for table, _ in found))
    lines = [
        {
            "table": table,
            "conclusion": words,
            **{name: verdicts.get(name, NO_SOURCE) for name in sources},
            "together": together(list(verdicts.values())),
        }
        for (table, words), verdicts in sorted(found.items(), key=lambda item: tables.index(item[0][0]))
    ]
    return pd.DataFrame(lines, columns=["table", "conclusion", *sources, "together"])


def together(verdicts: list[str]) -> str:
    told = {verdict for verdict in verdicts if verdict in (HOLDS, FAILS)}
    if len(told) == 2:
        return DIFFER
    if told:
        return told.pop()
    return OPEN if OPEN in verdicts else NOT_RUN


def summary(frame: pd.DataFrame) -> str:
    counts = frame.together.value_counts()
    parts = [f"{counts[word]} {word}" for word in (HOLDS, FAILS, DIFFER, OPEN, NOT_RUN) if counts.get(word)]
    return f"Of {len(frame)} conclusions: {'; '.join(parts)}."


def write(frame: pd.DataFrame, out: Path | None = None, results: Path = RESULTS) -> None:
    from analysis.results import Report

    sources = files(results)
    caption = (
        f"{', '.join(sources)}: each source's own verdict; together: what a source tells and none contradicts. A "
        f"source that did not ask is {NO_SOURCE!r}."
    )
    with Report(
        "conclusions", "What the papers conclude, from every source", "python -m analysis.conclusions --report",
        config={"sources": list(sources)}, inputs=list(sources.values()), out=out,
    ) as report:  # fmt: skip
        report.prose(f"{summary(frame)} {ABOUT}")
        report.table("conclusions", frame, caption)


@command("analysis.conclusions")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(
        prog="python -m analysis.conclusions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--report", action="store_true", help="write results/conclusions with its record")
    parser.add_argument("--out", type=new_folder, help="folder for the report")
    formats.add_arguments(parser)
    args = parser.parse_args(argv)
    if not files():
        print(LACKING)
        return 0
    frame = side_by_side()
    if args.report:
        write(frame, args.out)
    if not formats.emit(frame, args):
        print(f"{formats.render(frame)}\n\n{summary(frame)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
