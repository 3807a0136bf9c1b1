"""What the captions of Figures 1, 3 and 4 say, each beside the number that was measured here."""

from __future__ import annotations

import pandas as pd

from analysis.shared.models import available

DENSE, SPARSE = "micro_deit_class_token", "micro_stvit_16"
BOTH, GLOBAL = "micro_stvit_4", "micro_stvit_global"
SWIN_MODEL = "micro_stvit_swin"
FAMILY = ("micro_stvit_4", "micro_stvit_16", GLOBAL)


def claims(by_layer: pd.DataFrame, stgm: pd.DataFrame, window_maps) -> pd.DataFrame:
    """A row for each claim: figure, what is measured, value, what it is compared to, and what follows."""
    first, last = by_layer.iloc[0], by_layer.iloc[-1]
    rows = [
        _claim("1 left", "class attention differs between layers", DENSE,
               "rank correlation of layer 1 with the last", first.class_rank_correlation_last, 1.0,
               "below", by_layer.trained.all(), margin=0.3),
        _claim("1 left", "scores of other layers are imprecise", DENSE,
               "top 30 % of layer 1 also in the last's", first.class_top_overlap_last, 1.0,
               "below", by_layer.trained.all(), margin=0.3),
        _claim("1 right", "vertical lines in the deep layers: a few columns hold the attention", DENSE,
               "top 5 % of columns, last layer, beside layer 1", last.top_columns, first.top_columns,
               "above", by_layer.trained.all(), margin=0.02),
        _claim("1 right", "vertical lines in the deep layers: rows look alike", DENSE,
               "overlap of two rows, last layer, beside layer 1", last.row_overlap, first.row_overlap,
               "above", by_layer.trained.all(), margin=0.02),
    ]  # fmt: skip
    for name, part in stgm.groupby("model", sort=False):
        trained, maps = bool(part.trained.all()), part[part.kind == "image"]
        one, two = maps.iloc[1], maps.iloc[2]
        later = part[part.kind == "semantic"]
        if name != GLOBAL:
            rows.append(_claim("3", "maps stay with their windows", name, "share of a map in its own window",
                               one.window_share, one.window_even, "above", trained, margin=0.02))  # fmt: skip
            rows.append(_claim("4b", "the second layer is more accurate", name,
                               "share of a map on the marked object, second layer beside first",
                               two.on_marked, one.on_marked, "above", trained, margin=0.005))  # fmt: skip
        rows.append(_claim("4a", f"one token (here {two.global_token:.0f}) looks at semantic tokens, always",
                           name, "images in which it is that one", two.agree, two.chance, "above", trained,
                           margin=0.4))  # fmt: skip
        for row in later.itertuples():
            rows.append(_claim("4c", f"most look at one token (here {row.global_token:.0f}) in nearly all images",
                               name, f"images in which it is that one, {row.part}", row.agree, row.chance,
                               "above", trained, margin=0.4))  # fmt: skip
            rows.append(_claim("4c", "or is it the token of the window with the marked object?", name,
                               f"images in which it is, {row.part}", row.follows_marked, row.follows_chance,
                               "above", trained, margin=0.1))  # fmt: skip
        same = later.iloc[0].global_token == two.global_token
        rows.append(_claim("4a, 4c", "it is the same token in both", name, "same token (1) or not (0)",
                           float(same), 1 / round(1 / later.iloc[0].even), "above", trained, 0.0))  # fmt: skip
    pair = stgm[stgm.part.str.endswith("STGM") & stgm.model.isin([BOTH, GLOBAL])]
    by_model = pair.groupby("model").first()
    rows.append(_claim("4d", "global initialization alone: more similar maps", GLOBAL,
                       f"overlap of two tokens' maps, beside {BOTH}", by_model.row_overlap[GLOBAL],
                       by_model.row_overlap[BOTH], "above", bool(pair.trained.all()), margin=0.02))  # fmt: skip
    rows.append(_claim("4d", "global initialization alone: not tied to places", GLOBAL,
                       f"share of a map in its own window, beside {BOTH}", by_model.window_share[GLOBAL],
                       by_model.window_share[BOTH], "below", bool(pair.trained.all()), margin=0.02))  # fmt: skip
    rows.append(_claim("windows", "tokens of a window look beyond it", SWIN_MODEL, "share of attention outside",
                       window_maps.outside_share(), 0.0, "above", SWIN_MODEL in available(), margin=0.05))  # fmt: skip
    return pd.DataFrame(rows)


def _claim(figure, claim, model, measured, value, beside, side, trained, margin=0.0) -> dict:
    """Does ``value`` lie on the ``side`` (above, below) of ``beside`` that the paper expects, by ``margin`` or more?"""
    apart = value - beside if side == "above" else beside - value
    holds = "yes" if apart > margin else "reversed" if apart < -margin else "no"
    return dict(
        figure=figure, claim=claim, model=model, measure=measured, value=float(value), beside=float(beside),
        margin=margin, holds_here=holds if trained and side else "untrained",
    )  # fmt: skip
