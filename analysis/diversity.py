"""``python -m analysis.diversity``: how diverse the tokens are that each method leaves (BAT, Eq. 4, Figure 4).

    r(Z) = ‖Z − 1 zᵀ‖, z = argmin ‖Z − 1 z'ᵀ‖

in the entrywise l1 norm, where z is the median of each channel, as a share of ‖Z‖. Z are the image
tokens after the last reduction. Weights are untrained (or a DeiT-S checkpoint's with ``--weights``), so
the accuracies in the picture are the printed ones and no claim about this project's models.
"""

from __future__ import annotations

from pathlib import Path

from analysis import formats, style
from analysis.commands import Parser, at_least, command, new_folder, old_file
from analysis.results import PAPER, Report

MODEL = "deit_small_patch16_224"
RATES = (0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
METHODS = ("bat", "evit", "topk", "dynamicvit", "random", "tome", "meanpool", "stvit")
NEEDED = ("bat", "evit", "topk", "random")  # without these there is no Figure 4 on real weights
REAL_METHODS = (*NEEDED, "tome", "meanpool")
PRINTED = PAPER / "bat_fig6.csv"
COLOURS = {**style.METHOD, "random": style.SKY, "meanpool": style.YELLOW}
METHOD_NAMES = {"bat": "BAT", "evit": "EViT", "dynamicvit": "DynamicViT"}  # of the printed series


def score(z):
    """r(Z) / ‖Z‖ of Eq. 4 for each sample: (B, N, C) → (B,); 0 when all tokens are equal, as one always is."""
    center = z.contiguous().median(dim=1, keepdim=True).values  # expanded tensors give a wrong median
    return (z - center).abs().sum(dim=(1, 2)) / z.abs().sum(dim=(1, 2))


def last_tokens(model, images):
    """The image tokens after the last reduction, or after the STGM: (B, M, C)."""
    import torch

    caught = []

    def catch(module, args, output) -> None:
        caught.append(output[0] if isinstance(output, tuple) else output)

    if hasattr(model, "reductions"):
        module = model.reductions[max(model.reductions)]
    else:
        module = model.blocks[model.stgm.stop - 1]
    hook = module.register_forward_hook(catch)
    try:
        with torch.no_grad():
            model(images)
    finally:
        hook.remove()
    tokens = caught[-1]
    return tokens[:, model.num_kept_prefix_tokens :] if hasattr(model, "num_kept_prefix_tokens") else tokens


def choices(method: str, keep_rate: float) -> dict:
    """What leaves about as many tokens in the end as three reductions at ``keep_rate`` do."""
    left = 196 * keep_rate**3
    if method == "tome":
        return {"r": min(16, round((196 - left) / 12))}
    if method in ("meanpool", "stvit"):
        return {"tokens": max(1, round(left**0.5)) ** 2}
    return {"keep_rate": keep_rate}


def compute(
    rates: tuple[float, ...] = RATES,
    methods: tuple[str, ...] = METHODS,
    seeds: int = 2,
    weights: Path | None = None,
    base: str = MODEL,
    **model_args,
):
    """A row for each method and keep rate: tokens left, mean score and its standard deviation over seeds."""
    import pandas as pd
    import timm
    import torch

    import stvit

    rows = []
    for seed in range(1 if weights else seeds):
        torch.manual_seed(seed)
        dense = timm.create_model(base, checkpoint_path=str(weights or ""), **model_args).eval()
        images = photos(dense.patch_embed.img_size[0])
        for method in methods:
            for rate in rates:
                torch.manual_seed(seed)  # what a method adds is fresh
                model = stvit.sparsify(dense, method=method, **choices(method, rate))
                tokens = last_tokens(model, images)
                count = tokens.shape[1]
                mean = (
                    float(score(tokens).mean()) if count > 1 else float("nan")
                )  # one token has no diversity
                rows.append(dict(method=method, keep_rate=rate, tokens=count, score=mean))
    groups = pd.DataFrame(rows).groupby(["method", "keep_rate", "tokens"], sort=False).score
    frame = groups.agg(score="mean", sd="std").reset_index()
    printed = pd.read_csv(PRINTED).replace(
        {"series": {name: method for method, name in METHOD_NAMES.items()}}
    )
    printed = printed.rename(columns={"series": "method", "top1": "printed_top1"})
    return frame.merge(
        printed[["method", "keep_rate", "printed_top1"]], how="left", on=["method", "keep_rate"]
    )


def photos(size: int):
    """Six crops of two photographs that ship with scikit-learn, normalised: (6, 3, size, size)."""
    import torch
    from sklearn.datasets import load_sample_images

    crops = []
    for photo in load_sample_images().images:
        image = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None] / 255
        for left in (0, 208, 416):
            crop = image[:, :, 100:324, left : left + 224]
            crops.append(torch.nn.functional.interpolate(crop, (size, size), mode="bilinear", antialias=True))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (torch.cat(crops) - mean[:, None, None]) / std[:, None, None]


def plot(frame):
    """Figure 4 in two panels: the score against the keep rate, and the printed accuracies."""
    with style.house_style():
        fig, (left, right) = style.figure(height=2.7, columns=2)
        for method, rows in frame.groupby("method", sort=False):
            colour = COLOURS[method]
            dashed = "--" if method in ("random", "meanpool") else "-"
            label = METHOD_NAMES.get(method, method)
            left.errorbar(
                rows.keep_rate, rows.score, rows.sd, color=colour, ls=dashed, marker="o", label=label
            )
            known = rows.dropna(subset="printed_top1")
            if len(known):
                right.plot(known.keep_rate, known.printed_top1, color=colour, ls=":", marker="s", label=label)
        left.set(title="Diversity of the tokens left, measured", ylabel="r(Z) / ‖Z‖")
        right.set(title="Accuracy, as printed (BAT, Figure 6)", ylabel="top-1 on ImageNet (%)")
        for ax in (left, right):
            ax.set(xlabel="keep rate", xlim=(max(frame.keep_rate) + 0.03, min(frame.keep_rate) - 0.03))
        left.set_ylim(0, 0.9)
        left.legend(loc="lower left", ncols=3)
        right.legend(loc="lower left")
    return fig


def plot_real(frame):
    """Figure 4 on real weights: the score and what is left of the class feature, beside the printed accuracies."""
    import pandas as pd

    panels = {"diversity": ("Diversity of the tokens left", "r(Z) / ‖Z‖"),
              "cosine": ("Class feature that is left", "centred cosine to dense")}  # fmt: skip
    with style.house_style():
        fig, axes = style.figure(height=2.5, columns=3)
        for ax, (name, (title, ylabel)) in zip(axes, panels.items(), strict=False):
            for row in (row for row in REAL_METHODS if row in set(frame.row)):
                rows = frame[(frame.row == row) & (frame.keep_rate < 1)].sort_values("keep_rate")
                kind = "--" if row in ("random", "meanpool") else "-"
                ax.plot(
                    rows.keep_rate,
                    rows[name],
                    color=COLOURS[row],
                    ls=kind,
                    marker="o",
                    label=rows.method.iloc[0],
                )
                low, high = rows[f"{name}_low"], rows[f"{name}_high"]
                ax.fill_between(rows.keep_rate, low, high, color=COLOURS[row], alpha=0.15, lw=0)
            ax.set(ylabel=ylabel)
            ax.set_title(title, fontsize=8)
        for series, rows in pd.read_csv(PRINTED).groupby("series", sort=False):
            method = next((method for method, name in METHOD_NAMES.items() if name == series), "topk")
            axes[2].plot(rows.keep_rate, rows.top1, color=COLOURS[method], ls=":", marker="s", label=series)
        axes[2].set(ylabel="top-1 on ImageNet (%)")
        axes[2].set_title("Accuracy, as printed", fontsize=8)
        for ax in axes:
            ax.set(xlabel="keep rate", xlim=(0.9, 0.15))
        for ax in axes[::2]:
            ax.legend(loc="lower left", fontsize=6)
    return fig


def real(r: Report) -> bool:
    """The section on real weights, from the cells of ``analysis.offtheshelf``, if they are there."""
    from analysis.shared import real_table

    frame = real_table.read()
    if frame is None or not set(NEEDED) <= set(frame.row):
        r.prose(f"**{real_table.LACKING}.**")
        return False
    together = frame[frame.row.isin(REAL_METHODS) & (frame.keep_rate < 1)]
    agree = together[["diversity", "cosine"]].corr(method="spearman").iloc[0, 1]
    r.prose(
        "BAT argues that what a pruned model loses is the diversity of its tokens, and measures it as the distance of "
        "the tokens from the best matrix of equal rows (Eq. 4), here as a share of their norm. Random pruning and mean "
        "pooling stand as controls: a method is no better for a score that they reach too."
    )
    r.figure(
        "real_figure4",
        plot_real(frame),
        f"BAT's Figure 4 on {real_table.described()}, nothing trained: the score of Eq. 4 after the last reduction, "
        "and the cosine of the class feature to the dense model's. Over all points of these methods the two have a "
        f"rank correlation of {agree:.2f}. Bands are 95 % intervals over photographs; accuracies are BAT's Figure 6.",
        alt="Diversity and similarity to the dense model against keep rate, with bands, and printed accuracies",
    )
    columns = [
        "row",
        "keep_rate",
        "tokens",
        *(f"{n}{s}" for n in ("diversity", "cosine") for s in ("", "_low", "_high")),
    ]
    r.table("real_scores", together[columns], "The scores of these methods.", digits=3)
    return True


def report(out: Path | None = None, seeds: int = 2, weights: Path | None = None, **choices) -> None:
    """Real weights where they have been measured; otherwise, or with ``weights``, those of DeiT-S."""
    command = "python -m analysis.diversity --report"
    config = dict(model=MODEL, seeds=seeds, weights=weights.name if weights else None)
    with Report("diversity", "How diverse the tokens are", command, config, 0, [PRINTED], out) as r:
        if not real(r) or weights:
            deit(r, compute(seeds=seeds, weights=weights, **choices), config)


def deit(r: Report, frame, config: dict) -> None:
    """The section on DeiT-S, untrained where no weights were named."""
    table = frame.set_index(["method", "keep_rate"]).score
    first = max(frame.keep_rate)
    shown = ", ".join(f"{METHOD_NAMES.get(m, m)} {table[m, first]:.2f}" for m in dict.fromkeys(frame.method))
    r.prose(
        f"On DeiT-S with **{config['weights'] or 'untrained weights'}**, over six crops of two photographs, behind the "
        "last reduction. With untrained weights class attention is close to uniform, so the picture shows what the "
        "operations do to any tokens, not what training makes of them; no accuracy of this project stands in it. At "
        f"keep rate {first:g} the scores are {shown}."
    )
    r.figure(
        "figure4",
        plot(frame),
        "BAT's Figure 4: diversity score measured here, accuracies as the paper prints them. The methods' last "
        "reduction is in layer 10 (ToMe: 12, mean pooling: 5, STViT: 6); ToMe, mean pooling and STViT leave about "
        "as many tokens as three reductions at the keep rate do.",
        alt="Diversity score against keep rate for each method, and the printed accuracies of three of them",
    )
    r.table("scores", frame, "Score of Eq. 4 by method and keep rate; sd over initialisations.")


@command("analysis.diversity")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m analysis.diversity", description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, metavar="METHOD")
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES), metavar="RATE")
    parser.add_argument("--seeds", type=at_least(1), default=2, help="initialisations (default 2)")
    parser.add_argument("--weights", type=old_file, help="a DeiT-S checkpoint instead of untrained weights")
    parser.add_argument("--report", action="store_true", help="write results/diversity with its record")
    parser.add_argument("--out", type=new_folder, help="folder for the report")
    formats.add_arguments(parser)
    args = parser.parse_args(argv)
    if args.report:
        report(args.out, args.seeds, args.weights, rates=tuple(args.rates), methods=tuple(args.methods))
        return 0
    frame = compute(tuple(args.rates), tuple(args.methods), args.seeds, args.weights)
    if not formats.emit(frame, args):
        print(formats.render(frame))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
