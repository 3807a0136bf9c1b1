"""Accuracy against cost, and the methods at like cost beside it."""

from __future__ import annotations

from pathlib import Path

from analysis import style
from analysis.real_labels import tables
from analysis.real_labels.cells import CELLS
from analysis.real_labels.design import TABLES
from analysis.shared.rows import Row

NAMED = {table.name: table for table in TABLES}


def plot(folder: Path = CELLS):
    panels = [plot_costs]
    if any(tables.results_of(row, folder=folder) for row in NAMED["stvit_table4"].rows):
        panels.append(plot_methods)
    width = style.PAGE if len(panels) > 1 else 1.5 * style.COLUMN
    with style.house_style():
        fig, axes = style.figure(width, 2.8, columns=len(panels), squeeze=False)
        for ax, panel in zip(axes[0], panels, strict=True):
            panel(ax, folder)
    return fig


def plot_costs(ax, folder: Path) -> None:
    """Top-1 against counted multiply-adds; rows of one kind are joined."""
    for name in ("stvit_table1", "bat_keep_rates"):
        points = []
        for row in NAMED[name].rows:
            records = tables.results_of(row, folder=folder)
            if records:
                cost = next(iter(records.values()))["multiply_adds"] / 1e6
                values = list(tables.accuracies(records).values())
                points.append((cost, sum(values) / len(values)))
                ax.plot([cost] * len(values), values, "o", color=colour(row), alpha=0.5, ms=3)
                ax.annotate(row.name, points[-1], (6, 3), textcoords="offset points", fontsize=6)
        if points:
            ax.plot(
                *zip(*sorted(points), strict=True), "_-", color=style.GREY, ms=10, mew=1.6, lw=0.6, zorder=0
            )
    ax.set(xlabel="multiply-adds (10⁶)", ylabel="top-1 (%)")
    ax.margins(x=0.45)


def plot_methods(ax, folder: Path) -> None:
    """One line for each trained method of Table 4, its seeds as dots."""
    table = NAMED["stvit_table4"]
    found = tables.accuracies_of(table, folder=folder)
    trained = [row for row in table.rows if found[row.name]]
    for place, row in enumerate(trained):
        values = list(found[row.name].values())
        ax.plot(values, [place] * len(values), "o", color=colour(row), alpha=0.5, ms=3)
        ax.plot(sum(values) / len(values), place, "|", color=colour(row), ms=11, mew=1.6)
    ax.set_yticks(range(len(trained)), [row.name for row in trained], fontsize=6)
    ax.set(xlabel="top-1 (%)", ylim=(len(trained) - 0.5, -0.5))


def colour(row: Row) -> str:
    method = row.model.removeprefix("micro_")
    return style.METHOD.get("dense" if method == "deit" else method, style.CYCLE[-1])
