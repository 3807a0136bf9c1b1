"""Seeds, means and intervals of rows, drawn."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from analysis.shared.strips import interval, plot_seeds

ROWS = {"one": {0: 10.0, 1: 12.0, 2: 14.0}, "two": {0: 11.0}, "three": {}}


def test_the_interval_is_students():
    low, high = interval(np.array([10.0, 12.0, 14.0]))
    assert (low + high) / 2 == pytest.approx(12) and (high - low) / 2 == pytest.approx(
        4.3027 * 2 / 3**0.5, rel=1e-4
    )
    assert np.isnan(interval(np.array([5.0]))).all()


def test_every_seed_is_a_dot_and_empty_tables_have_no_panel():
    figure = plot_seeds({"a table": ROWS, "not run": {"one": {}}, "another": ROWS}, "top-1 (%)")
    shown = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title(loc="left") or ax.get_title() for ax in shown] == ["a table", "another"]
    assert [label.get_text() for label in shown[0].get_yticklabels()] == list(ROWS)
    dots = np.concatenate([found.get_offsets()[:, 0] for found in shown[0].collections])
    assert sorted(dots) == [10.0, 11.0, 12.0, 14.0]
    plt.close(figure)


def test_nothing_is_drawn_without_values():
    assert plot_seeds({"not run": {"one": {}}}, "top-1 (%)") is None
