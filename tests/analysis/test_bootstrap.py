"""Intervals and verdicts: closed forms, coverage, and the four things that can follow from an interval."""

import numpy as np
import pytest

from analysis.bootstrap import by_photograph, claim, draws, interval, verdict


def test_the_interval_of_equal_values_is_a_point():
    assert interval(np.full(7, 0.25)) == (0.25, 0.25)


def test_the_interval_of_many_normal_values_is_the_textbook_one():
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = interval(values, draws(400, 4000))
    half = 1.96 * values.std() / np.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_photographs_without_a_value_are_left_out():
    assert interval([1.0, np.nan, 1.0]) == (1.0, 1.0)
    assert all(np.isnan(interval([np.nan])))


def test_more_claims_need_wider_intervals_and_the_difference_stays():
    values = np.random.default_rng(1).normal(0.1, 0.2, 30)
    alone, together = claim(values), claim(values, claims=20)
    assert together["low"] < alone["low"] < alone["high"] < together["high"]
    assert alone["difference"] == together["difference"] == pytest.approx(values.mean())


@pytest.mark.parametrize(
    "low, high, margin, expected",
    [
        (0.02, 0.3, 0.01, "holds"),
        (0.005, 0.3, 0.01, "cannot tell"),
        (-0.3, -0.02, 0.01, "reversed"),
        (-0.005, 0.005, 0.01, "no difference"),
        (-0.2, 0.3, 0.01, "cannot tell"),
        (0.001, 0.3, 0.0, "holds"),
    ],
)
def test_verdicts(low, high, margin, expected):
    assert verdict(low, high, margin) == expected


def test_a_claim_that_is_right_is_rarely_called_reversed_and_mostly_holds():
    generator = np.random.default_rng(2)
    found = [claim(generator.normal(0.1, 0.2, 40), drawn=draws(40, 1000))["verdict"] for _ in range(200)]
    assert found.count("holds") > 150 and found.count("reversed") == 0


def test_means_over_the_crops_of_each_photograph():
    owner = np.array([0, 1, 0, 1, 2])
    assert by_photograph([1, 2, 3, 4, 5], owner).tolist() == [2, 3, 5]
    assert by_photograph(np.arange(10).reshape(5, 2), owner).tolist() == [[2, 3], [4, 5], [8, 9]]
