"""Tables as text, CSV, JSON, Markdown and LaTeX, and the command-line options that ask for them."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from analysis.commands import new_file, write_text

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("text", "csv", "json", "markdown", "latex")


def render(frame: pd.DataFrame, fmt: str = "text", digits: int = 4) -> str:
    """One table in one of FORMATS; ``json`` is a list of rows with every digit kept."""
    if fmt == "json":
        return frame.to_json(orient="records", force_ascii=False, indent=1, double_precision=15)
    if fmt == "csv":
        return frame.to_csv(index=False, lineterminator="\n").rstrip("\n")
    shown = frame.map(lambda value: _cell(value, digits))
    if fmt == "latex":
        return shown.to_latex(index=False, escape=True).rstrip("\n")
    if fmt in ("text", "markdown"):
        from tabulate import tabulate

        style = "github" if fmt == "markdown" else "simple"
        return tabulate(shown, headers="keys", tablefmt=style, showindex=False, disable_numparse=True)
    raise ValueError(f"unknown table format {fmt!r}; choose one of {', '.join(FORMATS)}")


def _cell(value, digits: int) -> str:
    if value is None or value != value:  # NaN is the one value that differs from itself
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{digits}g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--json --csv --markdown --latex``, each with an optional file (``-`` or nothing: stdout)."""
    group = parser.add_argument_group("output (FILE '-' or none: standard output)")
    for fmt in FORMATS[1:]:
        option = dict(nargs="?", const="-", metavar="FILE", type=new_file)
        group.add_argument(f"--{fmt}", help=f"the table as {fmt}", **option)


def emit(frame: pd.DataFrame, args: argparse.Namespace) -> bool:
    """Write the formats that were asked for; False if none was, so that a report can be printed."""
    asked = {fmt: getattr(args, fmt) for fmt in FORMATS[1:] if getattr(args, fmt, None)}
    for fmt, target in asked.items():
        write_text(render(frame, fmt) + "\n", target)
    return bool(asked)


def dump(value, path) -> None:
    """JSON with sorted keys and a final newline, so that equal content is equal bytes."""
    write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", path)
