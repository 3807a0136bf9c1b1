"""The throughput that the papers print (on a V100), by registered model, and whether it is consistent.

A printed gain such as (+61 %) follows from the two speeds printed with it; where no rounding of the speeds
gives the gain, rounded or cut off, the row is not consistent.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import TYPE_CHECKING

from analysis.results import PAPER
from analysis.throughput.specs import split

if TYPE_CHECKING:
    import pandas as pd

TABLE_TITLES = {  # file → where its numbers are from; batch 128 for images
    "stvit_table1": "STViT, Table 1",
    "stvit_table2": "STViT, Table 2",
    "stvit_table3": "STViT, Table 3",
    "stvit_table6": "STViT, Table 6",
    "stvit_table10": "STViT, Table 10",
    "bat_table1": "BAT, Table 1",
}
SIZE_NAMES = {"T": "tiny", "S": "small", "B": "base"}
TRUNKS = {
    "DeiT": "deit_{}_patch16_224",
    "Swin": "swin_{}_patch4_window7_224",
    "R-Swin": "r_swin_{}_patch4_window7_224",
    "LV-ViT": "lvvit_{}_patch16_224",
    "VideoSwin": "video_swin_{}",
}
RIVALS = ("BAT", "EViT", "DynamicViT")  # of BAT's table, those that are registered, at keep rate 0.7
WINDOW = {4: 2, 16: 4}  # semantic tokens of a window → its side, beside the default of 9
EARLIER = {"T": 1, "S": 8, "B": 8}  # base layers where the STGM is moved
DEFAULTS = {"num_semantic_tokens": 16, "semantic_window": 3, "keep_rate": 0.7, "pooling": "intra_inter"}
SAME_SPEED = ("class_token", "global_pool", "fc_norm", "num_classes", "img_size")
OTHER_NAMES = {"torchvision.swin3d_t": "video_swin_tiny", "torchvision.swin3d_s": "video_swin_small"}


def printed() -> pd.DataFrame:
    """Every printed speed: source, model, spec (None: not registered), per second, gain, and the flags."""
    import pandas as pd

    rows = [row for file, source in TABLE_TITLES.items() for row in read(file, source)]
    dense = {(row["source"], row["model"]): row["per_second"] for row in rows}
    for row in rows:
        backbone = row.pop("backbone")
        if (row["source"], backbone) in dense:
            base = dense[row["source"], backbone]
        else:  # Table 3 prints no base: it is Table 2's
            base = dense["STViT, Table 2", backbone]
        row["ratio"] = row["per_second"] / base
        row["gain"] = 100 * (row["ratio"] - 1)
        row["off_by"] = row["printed_gain"] - row["gain"]
        row["consistent"] = consistent(row["per_second"], base, row["printed_gain"])
    return pd.DataFrame(rows)


def read(file: str, source: str) -> list[dict]:
    import pandas as pd

    rows = []
    for line in pd.read_csv(PAPER / f"{file}.csv").to_dict("records"):
        per_second = line.get("images_per_second", line.get("frames_per_second"))
        if not per_second > 0:  # BAT's table leaves some out
            continue
        model, backbone = line.get("model", line.get("method")), line.get("backbone", "LV-ViT-S")
        tokens = line.get("semantic_tokens", math.nan)
        rows.append(
            {
                "source": source,
                "model": model,
                "backbone": backbone,
                "tokens": None if tokens != tokens else int(tokens),
                "spec": spec_of(model, backbone, tokens, line.get("stgm") == "moved"),
                "per_second": per_second,
                "printed_gain": line.get("speedup_pct", math.nan),
            }
        )
    return rows


def spec_of(model: str, backbone: str, tokens: float, moved: bool) -> str | None:
    """The registered model that a printed row speaks of."""
    if model in RIVALS:
        return f"{model.lower()}_{spec_of(backbone, backbone, math.nan, False)}"
    match = re.fullmatch(rf"(STViT-)?({'|'.join(TRUNKS)})-([TSB])", model)
    if match is None:
        return None
    sparse, trunk, size = match.groups()
    spec = ("stvit_" if sparse else "") + TRUNKS[trunk].format(SIZE_NAMES[size])
    if sparse and trunk in ("DeiT", "LV-ViT"):
        return None if tokens != tokens else f"{spec}:num_semantic_tokens={int(tokens)}"
    if tokens in WINDOW:
        spec += f":semantic_window={WINDOW[tokens]}"
    return spec + (f":base_depth={EARLIER[size]}" if moved else "")


def consistent(speed: float, base: float, gain: float) -> bool | None:
    """Can speeds that round to these have this gain in whole percent, rounded or cut off? None: no gain."""
    if gain != gain:
        return None
    low = 100 * ((speed - 0.5) / (base + 0.5) - 1)
    high = 100 * ((speed + 0.5) / (base - 0.5) - 1)
    return bool(gain - 0.5 <= high and low < gain + 1)


def key(spec: str) -> tuple:
    """What of a spec decides which printed row is its own."""
    name, options = split(spec)
    tokens = {**DEFAULTS, **{"num_semantic_tokens": 36}} if "lvvit" in name else DEFAULTS
    own = {k: v for k, v in options.items() if k not in SAME_SPEED and tokens.get(k) != v}
    return OTHER_NAMES.get(name, name), tuple(sorted((k, str(v)) for k, v in own.items()))


@cache
def by_spec() -> dict[tuple, dict]:
    rows = printed().to_dict("records")
    return {key(row["spec"]): row for row in reversed(rows) if isinstance(row["spec"], str)}


def beside(rows: list[dict]) -> list[dict]:
    """Measured rows with the printed speed and ratio of the same model where there is one."""
    found = []
    for row in rows:
        line = None
        if row["task"] == "inference" and not row["four_maps"] and "224x224" in row["image_size"]:
            line = by_spec().get(key(row["model"]))
        found.append(
            {
                **row,
                "printed_per_second": line and line["per_second"],
                "printed_ratio": line and line["ratio"],
                "printed_in": line and line["source"],
            }
        )
    return found
