"""The cost of the heads on top of the backbones of Tables 5 and 12: how much of a whole model STViT-R saves.

Counted multiply-adds without any data, on the meta device. The backbones are those of
``analysis.complexity``, counted there; UperNet's auxiliary head works in training alone.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.results import RESULTS

FLOPS_CELLS = RESULTS / "complexity" / "cells.csv"
WIDTHS = {"S": 96, "B": 128}  # channels of the first map
CLASSES = 150


def segmenter(size: str, side: int = 512) -> int:
    """Multiply-adds of UperNet's head on maps of strides 4 to 32."""
    import torch

    from analysis.shared.counting import count
    from stvit.extras import require

    upernet = require("transformers.models.upernet.modeling_upernet", "UperNet")
    from transformers import UperNetConfig

    channels = [WIDTHS[size] * 2**i for i in range(4)]
    config = UperNetConfig(num_labels=CLASSES, use_auxiliary_head=False)

    class Head(torch.nn.Module):
        """The head on maps that are parts of one tensor, since what is counted takes a single input."""

        def __init__(self):
            super().__init__()
            self.head = upernet.UperNetHead(config, channels)

        def forward(self, x):
            maps = [
                x.new_zeros(1, c, side // s, side // s) for c, s in zip(channels, (4, 8, 16, 32), strict=True)
            ]
            return self.head(maps)

    with torch.device("meta"):
        head = Head().eval().requires_grad_(False)
    return count(head, (1, 1, 1, 1)).total


def table(cells: Path = FLOPS_CELLS) -> pd.DataFrame:
    """Table 12's backbones, printed and counted, with the head, 10⁹ multiply-adds."""
    counted = pd.read_csv(cells)
    lines = []
    for size in WIDTHS:
        head = segmenter(size) / 1e9
        rows = counted[(counted.table.astype(str) == "12") & counted.model.str.endswith(f"Swin-{size}")]
        base = rows[rows.model == f"Swin-{size}"].iloc[0]
        for _, row in rows.iterrows():
            whole, base_whole = row.counted + head, base.counted + head
            lines.append(
                {
                    "model": f"UperNet, {row.model}",
                    "printed": row.printed,
                    "backbone": round(row.counted, 2),
                    "head": round(head, 2),
                    "whole": round(whole, 2),
                    "backbone_saved_pct": round(100 * (1 - row.counted / base.counted), 1),
                    "whole_saved_pct": round(100 * (1 - whole / base_whole), 1),
                }
            )
    return pd.DataFrame(lines)
