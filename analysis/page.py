"""``results/index.html``: every table and figure with the record that made it, on one page.

The page is derived from the records (``results/*/record.json``) and the files they name alone, and
holds all it shows: it opens offline, on a phone, and after the folder has moved.
"""

from __future__ import annotations

import base64
import csv
import json
import re
from pathlib import Path

from analysis.results import RESULTS

TEMPLATE = Path(__file__).with_name("page.html")
LEADING = (
    "overview",
    "conclusions",
    "offtheshelf",
    "complexity",
    "cluster_sim",
)  # the order of the sections; others follow by name


def write(results: Path = RESULTS) -> Path:
    """Write the page from the records in ``results`` and return its path."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    path = results / "index.html"
    path.write_text(template.render(sections=sections(results)) + "\n", encoding="utf-8")
    return path


def sections(results: Path) -> list[dict]:
    """One section a record, its blocks made ready to show."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*/record.json"))]
    records.sort(
        key=lambda r: (LEADING.index(r["name"]) if r["name"] in LEADING else len(LEADING), r["name"])
    )
    return [_section(record, results / record["name"]) for record in records]


def _section(record: dict, folder: Path) -> dict:
    return {
        **record,
        "run": _last_run(folder),
        "blocks": [_ready(block, folder) for block in record["blocks"]],
    }


def _last_run(folder: Path) -> dict | None:
    """When the results were last made again, if this checkout did so."""
    path = folder / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _ready(block: dict, folder: Path) -> dict:
    if block["kind"] == "prose":
        return {**block, "html": _markdown(block["text"])}
    if block["kind"] == "table":
        return {**block, **_table(folder / f"{block['name']}.csv", block["digits"]), "folder": folder.name}
    if block["kind"] == "figure":
        stem = folder / block["name"]
        path = stem.with_suffix(".svg") if stem.with_suffix(".svg").exists() else stem.with_suffix(".png")
        vector = path.suffix == ".svg"
        return {
            **block,
            "source": _data_uri(path),
            "width": _width(path),
            "folder": folder.name,
            "vector": vector,
        }
    return block


def _markdown(text: str):
    import markdown
    from markupsafe import Markup

    return Markup(markdown.markdown(text, extensions=["tables"]))


def _table(path: Path, digits: int) -> dict:
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    numeric = [all(_number(row[i]) is not None for row in rows if row[i]) for i in range(len(header))]
    shown = [[_shown(cell, digits) if numeric[i] else cell for i, cell in enumerate(row)] for row in rows]
    return {
        "header": [{"name": name, "numeric": numeric[i]} for i, name in enumerate(header)],
        "body": [list(zip(row, cells, strict=True)) for row, cells in zip(rows, shown, strict=True)],
    }


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _shown(cell: str, digits: int) -> str:
    value = _number(cell)
    if value is None or cell.lstrip("-").isdigit():
        return f"{int(cell):,}" if cell.lstrip("-").isdigit() else cell
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.{digits}g}"


def _data_uri(path: Path) -> str:
    kind = {".svg": "svg+xml", ".png": "png"}[path.suffix]
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _width(path: Path) -> int:
    """Points on the page: a quarter wider than on paper, where 7-point text is too small for a screen."""
    if path.suffix == ".svg":
        match = re.search(r'<svg[^>]*\bwidth="([\d.]+)pt"', path.read_text(encoding="utf-8"))
        return round(1.25 * float(match[1]))
    from PIL import Image

    with Image.open(path) as image:
        return round(1.25 * 72 * image.width / image.info["dpi"][0])


if __name__ == "__main__":
    print(write())
