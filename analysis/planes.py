"""``python -m analysis.planes``: accuracy against FLOPs and against throughput (BAT, Figure 6), by source.

Printed points are drawn as printed, each paper in a panel of its own, since their machines, FLOPs counters
and rivals' numbers differ. This project's own points stand in another figure: other images, other models,
other units, never one series with a printed one.
"""

from __future__ import annotations

from pathlib import Path

from analysis import formats, style
from analysis.commands import Parser, command, new_folder
from analysis.results import PAPER, RESULTS, Report, output
from analysis.shared import records

CELLS = RESULTS / "ablations" / "cells"
SCENE_SIZE = 48  # pixels of the scenes that our methods are compared on
PRINTED_SOURCES = {  # file → what its rows are called, and the table they are from
    "stvit_table1": "STViT, Table 1",
    "stvit_table4": "STViT, Table 4",
    "stvit_table10": "STViT, Table 10",
    "stvit_table11": "STViT, Table 11",
    "bat_table1": "BAT, Table 1",
    "bat_table2": "BAT, Table 2",
    "bat_fig6": "BAT, Figure 6",
}
BACKBONES = ("DeiT-T", "DeiT-S", "DeiT-B")
SPEED = {"STViT, Table 1": "batch 128 on a V100", "BAT, Table 1": "as BAT measured it"}
COLOUR = {
    "STViT": style.METHOD["stvit"], "BAT": style.METHOD["bat"], "EViT+BAT": style.YELLOW,
    "EViT": style.METHOD["evit"], "DynamicViT": style.METHOD["dynamicvit"], "dense": style.INK,
}  # fmt: skip
REAL_COLOUR = {**style.METHOD, "random": style.SKY, "meanpool": style.YELLOW}
OURS = {"deit": "dense", "stvit": "STViT", "bat": "BAT", "evit": "EViT", "dynamicvit": "DynamicViT", "tome": "ToMe",
        "topk": "top-k", "random": "random", "meanpool": "mean pooling"}  # fmt: skip


def printed():
    """Every printed point: source, backbone, method, setting, top1, gflops, images_per_second, contradiction."""
    import pandas as pd

    frames = []
    for file, source in PRINTED_SOURCES.items():
        rows = pd.read_csv(PAPER / f"{file}.csv")
        method = rows.get("method", rows.get("model", rows.get("series")))
        tokens, rate = rows.get("semantic_tokens"), rows.get("keep_rate")
        setting = rate if tokens is None else tokens
        backbone = rows.get("backbone", "DeiT-S" if file == "bat_fig6" else None)
        if backbone is None:
            backbone = "LV-ViT-S" if file.startswith("stvit") else method
        frames.append(
            pd.DataFrame(
                dict(
                    source=source,
                    backbone=backbone,
                    method=[_method(name) for name in method],
                    setting=setting,
                    top1=rows.top1,
                    gflops=rows.gflops,
                    images_per_second=rows.get("images_per_second"),
                    other_base_model=rows.get("other_base_model", "no"),
                    contradiction=rows.contradiction,
                )
            )
        )
    return pd.concat(frames, ignore_index=True)


def _method(name: str) -> str:
    """STViT-DeiT-S → STViT; a model that is its own backbone → dense."""
    if name.startswith("STViT"):
        return "STViT"
    return "dense" if name in (*BACKBONES, "LV-ViT-S") else name


def ours(folder: Path = CELLS):
    """This project's trained models: a row for each configuration, the mean over seeds."""
    import pandas as pd

    rows = []
    for record in records.read_all(folder).values():
        if record["scenes"]["size"] != SCENE_SIZE:
            continue  # other images and another training: no point of the same plane
        training, args = record["training"], record["training"].get("model_args", {})
        method = training["model"].removeprefix("micro_")
        args = {
            k: v
            for k, v in args.items()
            if k not in ("img_size", "patch_size", "embed_dim", "depth", "mlp_ratio")
        }
        reads = "class token" if args.get("class_token") or method == "bat" else "mean"
        drop = ("class_token", "global_pool", "fc_norm", "num_heads", "num_classes", "in_chans")
        setting = ", ".join(f"{k}={v}" for k, v in sorted(args.items()) if k not in drop)
        rows.append(
            dict(method=OURS.get(method, method), reads=reads, setting=setting, top1=record["test"]["top1"],
                 million_multiply_adds=record["multiply_adds"] / 1e6, half_width=record["test"]["half_width"])
        )  # fmt: skip
    if not rows:
        return pd.DataFrame(
            columns=["method", "reads", "setting", "million_multiply_adds", "top1", "sd", "seeds"]
        )
    groups = pd.DataFrame(rows).groupby(["method", "reads", "setting", "million_multiply_adds"], sort=False)
    return groups.top1.agg(top1="mean", sd="std", seeds="size").reset_index()


def claims(points):
    """What the papers say of these planes, each with its number from the printed tables."""
    import pandas as pd

    fig6 = points[points.source == "BAT, Figure 6"].pivot(index="setting", columns="method", values="top1")
    gain = fig6.BAT - fig6[["EViT", "DynamicViT"]].max(axis=1)
    table4 = points[(points.source == "STViT, Table 4") & (points.other_base_model == "no")]
    rows = [
        ("BAT, Figure 6", "best at every keep rate", "smallest lead over EViT and DynamicViT, points",
         gain.min(), bool(gain.min() > 0)),
        ("BAT, Figure 6", "DynamicViT falls by more than 10 % at 1.6 G", "DynamicViT below dense DeiT-S (79.8), points",
         79.8 - fig6.DynamicViT.min(), bool(79.8 - fig6.DynamicViT.min() > 10)),
    ]  # fmt: skip
    for backbone, part in table4.groupby("backbone"):
        rest, own = part[part.method != "STViT"], part[part.method == "STViT"].iloc[0]
        rows.append(("STViT, Table 4", f"{backbone}: most accurate", "lead over the best other, points",
                     own.top1 - rest.top1.max(), bool(own.top1 >= rest.top1.max())))  # fmt: skip
        rows.append(("STViT, Table 4", f"{backbone}: fewest FLOPs", "G below the cheapest other",
                     rest.gflops.min() - own.gflops, bool(own.gflops <= rest.gflops.min())))  # fmt: skip
    speeds = points[points.source == "STViT, Table 1"]
    for backbone, part in speeds.groupby("backbone", sort=False):
        base = part[part.method == "dense"].iloc[0]
        best = part[(part.method == "STViT") & (part.top1 >= base.top1)].images_per_second.max()
        rows.append(("STViT, Table 1", f"{backbone}: twice as fast at the same accuracy", "times the base's images/s",
                     best / base.images_per_second, bool(best / base.images_per_second >= 2)))  # fmt: skip
    return pd.DataFrame(rows, columns=["source", "claim", "measure", "value", "printed_numbers_agree"])


def plot_figure_6(points):
    """BAT's Figure 6, as printed."""
    with style.house_style():
        fig, ax = style.figure(style.COLUMN, 2.5)
        part = points[points.source == "BAT, Figure 6"]
        for (method, rows), marker in zip(part.groupby("method", sort=False), "osD", strict=True):
            ax.plot(rows.gflops, rows.top1, marker=marker, color=COLOUR[method], label=method)
        ax.axhline(79.8, color=style.GREY, ls="--", lw=1)
        ax.text(3.05, 79.95, "dense DeiT-S, 4.6 G", fontsize=6.5, color=style.GREY, va="bottom")
        ax.set(
            xlabel="FLOPs as printed (G)", ylabel="top-1 on ImageNet (%)", xlim=(3.1, 1.5), ylim=(68, 81.5)
        )
        ax.text(3.05, 68.5, "printed points (BAT, Figure 6)", fontsize=6.5, color=style.GREY)
        ax.legend(loc="center left", bbox_to_anchor=(0, 0.4))
    return fig


def plot_plane(points, sources, x: str, xlabel: str):
    """A panel a source: accuracy against ``x``; backbones are connected, rivals are single points."""
    with style.house_style():
        fig, axes = style.figure(style.PAGE, 3.1, 1, len(sources), sharey=True)
        for ax, source in zip(axes, sources, strict=True):
            part = points[points.source.isin(source[1]) & points.backbone.isin(BACKBONES)].dropna(subset=[x])
            part = part.drop_duplicates(subset=["backbone", "method", "top1", x])
            for method, rows in part.groupby("method", sort=False):
                colour = COLOUR.get(method, style.GREY)
                for _, line in rows.groupby("backbone", sort=False):
                    line = line.sort_values(x)
                    ax.plot(line[x], line.top1, ls="-" if len(line) > 1 else "", color=colour, lw=0.9)
                marker = "*" if method == "dense" else "o" if method in COLOUR else "x"
                name = method if method in COLOUR else "others" if method == _first_other(part) else None
                size = 46 if method == "dense" else 20
                ax.scatter(
                    rows[x], rows.top1, s=size, marker=marker, color=colour, label=name, zorder=3, lw=1
                )
            for row in part[part.method == "dense"].itertuples():
                place = dict(textcoords="offset points", xytext=(0, 6), ha="center", fontsize=6.5)
                ax.annotate(row.backbone, (getattr(row, x), row.top1), **place)
            ax.set_xscale("log")
            ax.set_xticks(*_ticks(x))
            ax.set_xlim(*(0.4, 35) if x == "gflops" else (230, 6700))
            ax.minorticks_off()
            ax.set(xlabel=xlabel, ylim=(68.3, 84.3))
            ax.set_title(source[0], fontsize=8)
            ax.legend(loc="lower right" if x == "gflops" else "lower left", fontsize=6.5)
        axes[0].set_ylabel("top-1 on ImageNet (%)")
    return fig


def _first_other(part):
    others = part[~part.method.isin(COLOUR)]
    return others.method.iloc[0] if len(others) else None


def _ticks(x: str):
    ticks = (0.5, 1, 2, 5, 10, 20) if x == "gflops" else (300, 500, 1000, 2000, 4000)
    return ticks, [f"{tick:,g}" for tick in ticks]


def plot_ours(frame):
    """This project's own models, scenes of 48 × 48 pixels: by how the head reads, since that decides the base."""
    colours = {
        **COLOUR,
        "ToMe": style.METHOD["tome"],
        "top-k": style.GREY,
        "random": style.SKY,
        "mean pooling": style.YELLOW,
    }
    with style.house_style():
        fig, axes = style.figure(style.PAGE, 2.9, 1, 2, sharey=True)
        for ax, reads in zip(axes, ("mean", "class token"), strict=True):
            for method, rows in frame[frame.reads == reads].groupby("method", sort=False):
                ax.errorbar(rows.million_multiply_adds, rows.top1, rows.sd, fmt="*" if method == "dense" else "o",
                            ms=8 if method == "dense" else 4, color=colours.get(method, style.GREEN), label=method,
                            lw=0.8, mec="white", mew=0.4)  # fmt: skip
            ax.set(xlabel="multiply-adds (10⁶), counted")
            ax.set_title(f"this project: heads that read the {reads}", fontsize=8)
            if ax.has_data():
                ax.legend(loc="center right", fontsize=6.5)
        axes[0].set_ylabel("top-1 on test scenes (%)")
    return fig


def plot_real(frame):
    """What each method leaves of a real model's class feature, against what it costs."""
    with style.house_style():
        fig, axes = style.figure(style.PAGE, 2.9, 1, 2, sharey=True)
        for ax, x, label in zip(axes, ("share", "time"), ("multiply-adds", "measured time"), strict=True):
            for row, rows in frame.assign(time=1 / frame.times_as_fast).groupby("row", sort=False):
                rows = rows.sort_values(x)
                name = row in REAL_COLOUR
                colour = REAL_COLOUR.get(row, "#c9c9c9")
                ax.plot(
                    rows[x],
                    rows.cosine,
                    color=colour,
                    marker="o",
                    ms=3,
                    lw=1,
                    label=rows.method.iloc[0] if name else None,
                )
            ax.set(xlabel=f"{label}, of the dense model's")
        axes[0].set_ylabel("centred cosine to the dense model")
        axes[1].legend(loc="lower right", fontsize=6.5, ncols=2)
    return fig


def real(r: Report) -> None:
    """The section on a real model, from the cells of ``analysis.offtheshelf``."""
    from analysis.shared import real_table

    frame = real_table.read()
    if frame is None:
        r.prose(f"**{real_table.LACKING}.**")
        return
    r.heading("A real model, without training")
    r.figure(
        "real",
        plot_real(frame),
        f"{real_table.described()}. Every point is a method at a keep rate, put into the model as it is.",
        alt="Similarity to the dense model against multiply-adds and against time, a line a method",
    )
    r.heading("The papers' own points")


def report(out: Path | None = None) -> None:
    points, own = printed(), ours()
    inputs = [PAPER / f"{file}.csv" for file in PRINTED_SOURCES]
    with Report(
        "planes", "Accuracy against cost", "python -m analysis.planes --report", {}, None, inputs, out
    ) as r:
        real(r)
        r.prose(
            "Accuracy against FLOPs and against throughput, as the papers print them, each paper in a panel of its "
            "own: they disagree about their common rivals (see the contradictions in the table), count with different "
            "tools and time on different machines. This project's own points come from small models on scenes and "
            "stand in a figure of their own. No series mixes the two."
        )
        r.table(
            "claims", claims(points), "What the papers say of these planes, and their own printed numbers."
        )
        r.figure("figure6", plot_figure_6(points), "BAT's Figure 6, printed points: DeiT-S with three reductions.",
                 alt="Accuracy against FLOPs for BAT, EViT and DynamicViT")  # fmt: skip
        by_paper = (("printed by STViT", ("STViT, Table 1", "STViT, Table 4")),
                    ("printed by BAT", ("BAT, Table 1", "BAT, Figure 6")))  # fmt: skip
        r.figure("flops", plot_plane(points, by_paper, "gflops", "FLOPs as printed (G)"),
                 "Printed points of the DeiT family: STViT's Tables 1 and 4, BAT's Table 1 and Figure 6.",
                 alt="Two panels of accuracy against FLOPs, one for each paper")  # fmt: skip
        by_speed = tuple((f"printed by {source} ({where})", (source,)) for source, where in SPEED.items())
        r.figure("throughput", plot_plane(points, by_speed, "images_per_second", "images per second as printed"),
                 "Printed throughput: the two papers' dense DeiT-S differ (1408 and 943 images/s), so that a point of "
                 "one panel says nothing beside a point of the other.",
                 alt="Two panels of accuracy against throughput, one for each paper")  # fmt: skip
        if len(own):
            r.figure("ours", plot_ours(own),
                     f"This project's models after one pass over 16,384 scenes, {int(own.seeds.sum())} trainings; "
                     "bars are the standard deviation over seeds where there are several.",
                     alt="Accuracy on test scenes against counted multiply-adds, in two panels")  # fmt: skip
            r.table("ours", own, "This project's points.")
        r.table("printed", points, "Every printed point, with what contradicts it.")


@command("analysis.planes")
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m analysis.planes", description=__doc__)
    parser.add_argument(
        "--ours", action="store_true", help="this project's points instead of the printed ones"
    )
    parser.add_argument("--report", action="store_true", help="write results/planes with its record")
    parser.add_argument("--out", type=new_folder, help="folder for the report")
    formats.add_arguments(parser)
    args = parser.parse_args(argv)
    if args.report:
        report(args.out or output("planes"))
        return 0
    frame = ours() if args.ours else printed()
    if not formats.emit(frame, args):
        print(formats.render(frame))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
