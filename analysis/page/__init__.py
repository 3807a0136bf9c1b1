"""``results/index.html``: what was found, and every table and figure with the record that made it, on one page.

The page is derived from the records (``results/*/record.json``) and the files they name alone. It opens
offline; pictures are loaded from the folders beside it when they come into view.
"""

from __future__ import annotations

from pathlib import Path

from analysis.page import sections, words
from analysis.results import RESULTS

HERE = Path(__file__).parent


def write(results: Path = RESULTS) -> Path:
    """Write the page from the records in ``results`` and return its path."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((HERE / "page.html").read_text(encoding="utf-8"))
    parts = {kind: Markup((HERE / f"page.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js")}
    found = sections.read(results)
    path = results / "index.html"
    html = template.render(
        **parts,
        sections=found,
        answers=sections.said(results),
        words=words.WORDS,
        anchor_of=words.anchor,
        picture=sections.lead_picture(found),
    )
    path.write_text(html + "\n", encoding="utf-8")
    return path
