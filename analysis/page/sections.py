"""The page's sections: one a record, with its point first and its blocks in folds, each below one heading."""

from __future__ import annotations

import csv
import html
import json
import re
from pathlib import Path

from analysis.page import points, words

LEADING = (
    "overview",
    "offtheshelf",
    "distilled",
    "real_labels",
    "complexity",
    "throughput",
    "attention_maps",
    "token_maps",
    "cluster_sim",
    "conclusions",
)  # fmt: skip  (others follow by name)
FIRST = "In short"  # the fold of what stands before the first heading
PIXELS_PER_POINT = 5 / 3  # a quarter wider than on paper, where 7-point text is too small for a screen


def read(results: Path) -> list[dict]:
    """One section a record, its blocks made ready to show."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*/record.json"))]
    records.sort(
        key=lambda r: (LEADING.index(r["name"]) if r["name"] in LEADING else len(LEADING), r["name"])
    )
    return [_section(record, results) for record in records]


def said(results: Path, section: str | None = None, seen: set[str] | None = None) -> list[dict]:
    """The points of a section, or those that lead the page, with the place that shows each."""
    seen = set() if seen is None else seen
    return [
        {"html": _markup(words.mark(_markdown(text), seen)), "anchor": anchor}
        for text, anchor in points.answers(results, section)
    ]


def lead_picture(sections: list[dict]) -> dict | None:
    """The first figure of the first section, which stands at the top of the page."""
    blocks = [block for fold in sections[0]["folds"] for block in fold["blocks"]] if sections else []
    return next((block for block in blocks if block["kind"] == "figure"), None)


def _section(record: dict, results: Path) -> dict:
    folder, seen = results / record["name"], set()
    return {
        **record,
        "run": _last_run(folder),
        "points": said(results, record["name"], seen),
        "folds": _folds(record["blocks"], folder, seen),
    }


def _folds(blocks: list[dict], folder: Path, seen: set[str]) -> list[dict]:
    """Blocks below each heading, with what they hold: ``2 figures, 1 table``."""
    folds: list[dict] = [{"title": FIRST, "blocks": []}]
    for block in blocks:
        if block["kind"] == "heading":
            folds.append({"title": block["text"], "blocks": []})
        else:
            folds[-1]["blocks"].append(_ready(block, folder, seen))
    kept = [fold for fold in folds if fold["blocks"]]
    return [{**fold, "holds": _holds(fold["blocks"])} for fold in kept]


def _holds(blocks: list[dict]) -> str:
    counts = {kind: sum(block["kind"] == kind for block in blocks) for kind in ("figure", "table")}
    return ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items() if count)


def _last_run(folder: Path) -> dict | None:
    """When the results were last made again, if this checkout did so."""
    path = folder / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _ready(block: dict, folder: Path, seen: set[str]) -> dict:
    if block["kind"] == "prose":
        return {**block, "html": _markup(words.mark(_markdown(block["text"]), seen))}
    caption = _markup(words.mark(html.escape(block["caption"], quote=False), seen))
    name = f"{folder.name}-{block['name']}"
    if block["kind"] == "table":
        table = _table(folder / f"{block['name']}.csv", block["digits"])
        return {**block, **table, "caption": caption, "id": name, "folder": folder.name}
    stem = folder / block["name"]
    vector = stem.with_suffix(".svg").exists()
    path = stem.with_suffix(".svg" if vector else ".png")
    width, height = _size(path)
    return {
        **block,
        "caption": caption,
        "id": f"{name}-figure",
        "folder": folder.name,
        "source": f"{folder.name}/{path.name}",
        "width": width,
        "height": height,
        "vector": vector,
    }


def _markdown(text: str) -> str:
    import markdown

    return markdown.markdown(text, extensions=["tables"])


def _markup(text: str):
    from markupsafe import Markup

    return Markup(text)


def _table(path: Path, digits: int) -> dict:
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    numeric = [all(_number(row[i]) is not None for row in rows if row[i]) for i in range(len(header))]
    shown = [[_shown(cell, digits) if numeric[i] else cell for i, cell in enumerate(row)] for row in rows]
    return {
        "header": [
            {"name": name, "numeric": numeric[i], "means": words.WORDS.get(name, "")}
            for i, name in enumerate(header)
        ],
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


def _size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the page, by which it is laid out before the picture is there."""
    if path.suffix == ".svg":
        found = re.search(
            r'<svg[^>]*\bwidth="([\d.]+)pt" height="([\d.]+)pt"', path.read_text(encoding="utf-8")
        )
        points_ = [float(side) for side in found.groups()]
    else:
        from PIL import Image

        with Image.open(path) as image:
            points_ = [72 * side / image.info["dpi"][0] for side in image.size]
    return tuple(round(PIXELS_PER_POINT * side) for side in points_)
