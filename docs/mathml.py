"""Formulas as MathML, which browsers draw by themselves: the pages need no network and no script for them."""

from docutils.nodes import SkipNode
from latex2mathml.converter import convert


def setup(app) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True}


def inline(translator, node) -> None:
    translator.body.append(convert(node.astext()))
    raise SkipNode


def block(translator, node) -> None:
    translator.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise SkipNode
