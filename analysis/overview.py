"""``python -m analysis.overview``: STViT in one picture, from a live model.

What becomes of the tokens of an image, layer by layer, and what each layer costs beside the dense
model: patches, the windows that semantic tokens are pooled from, and counted multiply-adds.
"""

from __future__ import annotations

from pathlib import Path

from analysis import style
from analysis.commands import Parser, at_least, command
from analysis.results import Report

PHOTOGRAPHS = ("astronaut", "coffee")
DENSE, SPARSE = "deit_small_patch16_224", "stvit_deit_small_patch16_224"


def compute(tokens: int = 16):
    """A frame with the tokens and the counted multiply-adds of each layer, dense and sparse."""
    import pandas as pd
    import timm

    import stvit  # noqa: F401 (registers the models)
    from analysis.shared.counting import count

    dense = timm.create_model(DENSE, class_token=False, global_pool="avg", fc_norm=False)
    sparse = timm.create_model(SPARSE, num_semantic_tokens=tokens)
    layers = [(str(i + 1), [f"blocks.{i}"]) for i in range(len(sparse.blocks))]
    layers.insert(sparse.stgm.start, ("pooling", ["initial"]))
    parts = dict([("patches", ["patch_embed"]), *layers, ("head", ["norm", "head"])])
    rows = []
    for name, model in (("dense", dense), ("stvit", sparse)):
        counts = count(model.eval(), (1, 3, 224, 224)).modules
        for part, modules in parts.items():
            rows.append(dict(model=name, part=part, flops=sum(counts.get(module, 0) for module in modules)))
    return pd.DataFrame(rows)


def plot(frame, tokens: int = 16):
    """Three views of one image above, the cost of each layer below."""
    import matplotlib.pyplot as plt

    from stvit.layers.pooling import token_grid

    with style.house_style():
        fig = plt.figure(figsize=(style.PAGE, 4.3), layout="constrained")
        top, bottom = fig.subfigures(2, 1, height_ratios=[1.35, 1], hspace=0.03)
        axes = top.subplots(1, 3)
        photo = sample_photo()
        grid = token_grid(tokens)
        titles = (
            "Layers 1-4: 196 image tokens X",
            f"Layers 5-6: {tokens} centers P, pooled from\nwindows, look at all of X",
            f"Layers 7-12: {tokens} semantic tokens S",
        )
        for ax, title in zip(axes, titles, strict=True):
            ax.set_title(title, fontsize=8)
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            ax.spines[:].set_visible(False)
        _draw_patches(axes[0], photo)
        _draw_windows(axes[1], photo, grid)
        _draw_tokens(axes[2], photo, grid)
        _draw_costs(bottom.subplots(), frame)
    return fig


def sample_photo():
    """A 224 × 224 photograph that ships with scikit-learn."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    photo = Image.fromarray(load_sample_image("china.jpg")).crop((150, 30, 540, 420)).resize((224, 224))
    return np.asarray(photo)


def _draw_patches(ax, photo) -> None:
    ax.imshow(photo)
    for line in range(16, 224, 16):
        ax.axhline(line - 0.5, color="white", lw=0.5)
        ax.axvline(line - 0.5, color="white", lw=0.5)


def _draw_windows(ax, photo, grid) -> None:
    ax.imshow(photo, alpha=0.75)
    for top, below, left, right in _windows(grid):
        ax.plot([left, right, right], [below, below, top], color=style.ORANGE, lw=1.8)
        ax.plot((left + right) / 2, (top + below) / 2, "o", color=style.BLUE, mec="white", ms=6)
    ax.set(xlim=(-0.5, 223.5), ylim=(223.5, -0.5))


def _draw_tokens(ax, photo, grid) -> None:
    """One patch of mean colour for each semantic token: what is left to compute with."""
    ax.set(xlim=(-0.5, 223.5), ylim=(223.5, -0.5), aspect="equal")
    for top, below, left, right in _windows(grid):
        colour = photo[top:below, left:right].mean((0, 1)) / 255
        ax.plot((left + right) / 2, (top + below) / 2, "o", color=colour, mec=style.BLUE, mew=1.2, ms=13)


def _windows(grid):
    """(top, below, left, right) of each pooling window, in pixels of a 14 × 14 map of 16-pixel patches."""
    from itertools import pairwise, product

    from stvit.layers.pooling import split

    rows, columns = ([16 * bound for bound in split(14, parts)] for parts in grid)
    for (top, below), (left, right) in product(pairwise(rows), pairwise(columns)):
        yield top, below, left, right


def _draw_costs(ax, frame) -> None:
    order = list(dict.fromkeys(frame.part))
    names = {"dense": "DeiT-S", "stvit": "STViT-DeiT-S, 16 tokens"}
    for shift, (model, rows) in zip((-0.2, 0.2), frame.groupby("model", sort=False), strict=True):
        flops = rows.set_index("part").flops.reindex(order) / 1e6
        label = f"{names[model]}: {rows.flops.sum() / 1e9:.2f} G"
        ax.bar(
            [i + shift for i in range(len(order))], flops, width=0.38, color=style.METHOD[model], label=label
        )
    ax.set_xticks(range(len(order)), order)
    ax.set_xlabel("layer")
    ax.margins(x=0.01)
    ax.set_ylabel("multiply-adds (10⁶)")
    ax.grid(axis="x", visible=False)
    ax.legend(loc="upper right", ncols=2, bbox_to_anchor=(1, 1.16))


def real(r: Report) -> dict:
    """Photographs through a model with real weights; without them a line says what is missing."""
    from analysis.images import photo
    from analysis.shared.models import real_or_none
    from stvit.data.photographs import missing, shipped

    subject, reason = real_or_none()
    names = [one.name for one in shipped() if one.name in PHOTOGRAPHS]
    if subject is None or not names:
        lacking = reason or f"photographs are missing: {', '.join(missing())}"
        r.prose(f"**The picture of a real model is not here: {lacking}.**")
        return {"missing": lacking}
    from analysis.shared.first_look import first_look

    r.figure(
        "real",
        first_look(subject, *(photo(name, subject.size) for name in names), side=style.PAGE / 5),
        f"{subject.found}: a photograph, what the class token attends to, and the tokens that two methods leave of "
        "196, without any training. Patches that were merged share a colour.",
        alt="Photographs, heat maps of class attention over them, and the tokens that BAT and ToMe leave",
    )
    return {"weights": subject.found, "photographs": names}


def report(out: Path | None = None) -> None:
    frame = compute()
    totals = frame.groupby("model").flops.sum()
    late = frame[frame.part.isin([str(i) for i in range(7, 13)])].groupby("model").flops.sum()
    command = "python -m analysis.overview --report"
    with Report("overview", "STViT in one picture", command, config := {}, out=out) as r:
        config["real"] = real(r)
        r.prose(
            "A plain vision transformer carries its 196 image tokens through all twelve layers. STViT keeps them for "
            "four; two layers gather them into 16 semantic tokens, which alone go on. Counted on the models, that "
            f"is {totals['stvit'] / 1e9:.2f} instead of {totals['dense'] / 1e9:.2f} G multiply-adds, "
            f"{1 - totals['stvit'] / totals['dense']:.0%} less; the last six layers together cost "
            f"{late['stvit'] / late['dense']:.0%} of what they did."
        )
        r.figure(
            "overview",
            plot(frame),
            "Tokens and cost, layer by layer (DeiT-S at 224 × 224, without a class token, 16 semantic tokens).",
            alt="An image cut into 196 patches, the 16 windows that semantic tokens are pooled from, the 16 tokens "
            "that remain, and bars of the cost of each layer for DeiT-S and STViT-DeiT-S",
        )
        wide = frame.pivot(index="part", columns="model", values="flops").reindex(frame.part.unique())
        wide = wide.rename(columns={"dense": "DeiT-S", "stvit": "STViT-DeiT-S"}).reset_index()
        r.table("layers", wide, "Multiply-adds of each part, counted by fvcore with attention included.")


@command("analysis.overview")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m analysis.overview", description=__doc__)
    parser.add_argument("--tokens", type=at_least(1), default=16, help="semantic tokens (default 16)")
    parser.add_argument("--report", action="store_true", help="write results/overview with its record")
    parser.add_argument(
        "--out", type=Path, help="folder for the report, or stem of the picture without --report"
    )
    args = parser.parse_args(argv)
    if args.report:
        report(args.out)
        return 0
    frame = compute(args.tokens)
    print(
        frame.pivot(index="part", columns="model", values="flops")
        .loc[list(dict.fromkeys(frame.part))]
        .to_string()
    )
    if args.out:
        print(*style.save(plot(frame, args.tokens), args.out), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
