"""11. Seconds and peak memory of the five ways to the update, each in a process of its own."""

from __future__ import annotations

import pandas as pd

from analysis.cluster_sim.options import Options

TITLE = "What it costs"
CAPTION = (
    "Seconds and peak resident memory of one update over nK tokens, each in a process of its own (one "
    "thread); "
    "pale: what the process holds before it starts; dashed: 1 GB. Generating the tokens is part of the "
    "streamed and reduced times and not of the others."
)
ALT = "Bars of seconds and peak memory for each method and number of tokens."
IMPLEMENTATIONS = ("naive", "chunked", "fused", "streamed", "reduced")
LIMIT_MB = 1000
TIMED = ("seconds", "peak_mb", "baseline_mb", "verdict")  # columns that differ from run to run


def plan(options: Options) -> list[dict]:
    """(method, tokens, d, queries): 10⁸ tokens for those whose memory does not grow."""
    small = [dict(method=m, tokens=10**6, d=64, queries=16) for m in IMPLEMENTATIONS]
    if options.level == "quick":
        return [{**run, "tokens": 10**5} for run in small]
    large = [
        dict(method="streamed", tokens=10**8, d=8, queries=4),
        dict(method="reduced", tokens=10**8, d=64, queries=16),
    ]
    more = [dict(method=m, tokens=10**7, d=64, queries=16) for m in ("fused", "chunked", "streamed")]
    more.append(dict(method="streamed", tokens=10**8, d=64, queries=16))
    return [*small, *large, *(more if options.level == "full" else [])]


def compute(options: Options) -> pd.DataFrame:
    from analysis.cluster_sim.cost import in_own_process
    from analysis.shared.loop import progress

    runs, rows = plan(options), []
    with progress(len(runs), 0, options.progress) as shown:
        for run in runs:
            rows.append(in_own_process(**run, seed=options.seed, device=options.device))
            shown.update()
    return pd.DataFrame(rows).assign(
        verdict=lambda f: ["under 1 GB" if peak < LIMIT_MB else "over 1 GB" for peak in f.peak_mb]
    )


def plot(frame: pd.DataFrame):
    from analysis import style

    with style.house_style():
        fig, axes = style.figure(style.PAGE, 2.7, columns=2, sharey=True)
        colors = dict(zip(IMPLEMENTATIONS, style.CYCLE, strict=False))
        names = [f"{row.method}, {row.tokens / 1e6:g} M" for row in frame.itertuples()]
        y = range(len(frame))[::-1]
        shade = [colors[method] for method in frame.method]
        axes[0].barh(y, frame.seconds, color=shade)
        axes[1].barh(y, frame.peak_mb, color=shade)
        axes[1].barh(y, frame.baseline_mb, color="w", alpha=0.6)
        axes[1].axvline(LIMIT_MB, color=style.GREY, linestyle="--", linewidth=0.8)
        axes[0].set_yticks(y, names)
        axes[0].set(xscale="log", xlabel="seconds", ylabel="method, tokens")
        axes[1].set(xlabel="peak memory (MB)")
        for ax in axes:
            ax.grid(axis="y", visible=False)
    return fig


def words(frame: pd.DataFrame) -> str:
    same = frame[frame.tokens == frame.tokens[frame.method == "naive"].max()]
    needs = ", ".join(f"{row.method} {row.peak_mb - row.baseline_mb:.0f} MB" for row in same.itertuples())
    tokens = same.tokens.iloc[0] * same.d.iloc[0] * 4 / 1e6
    text = (
        f"At {int(same.tokens.iloc[0]):,} tokens of d = {int(same.d.iloc[0])}, above what the process "
        f"holds before it "
        f"starts: {needs}; the tokens themselves are {tokens:.0f} MB in float32. "
    )
    for row in frame[frame.tokens >= 10**8].itertuples():
        text += (
            f"{row.tokens:,} tokens {row.method} (d = {row.d}, {row.queries} queries) take "
            f"{row.seconds:.1f} s and "
            f"{row.peak_mb:.0f} MB. "
        )
    return text + "Times are of this machine, on one thread, with whatever else it was doing."
