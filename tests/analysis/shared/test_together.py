"""Many comparisons at once: Student's tails, Holm's correction, and verdicts that pay for how many are looked at."""

import pytest
from scipy.stats import t

from analysis.shared.statistics import holm, spread, tail
from analysis.shared.verdicts import FAILS, HOLDS, NOT_RUN, OPEN, judge, judge_together, strongest

CLEAR, WEAK = [1.0, 1.1, 0.9, 1.05, 0.95], [0.5, 0.9, 0.1, 0.6, 0.3]


def test_tails_are_students():
    mean, sd, _ = spread(WEAK)
    expected = t.sf((mean - 0.2) / (sd / 5**0.5), 4)
    assert tail(WEAK, 0.2, "greater") == pytest.approx(expected)
    assert tail(WEAK, 0.2, "less") == pytest.approx(1 - expected)


def test_tails_of_equal_values():
    assert tail([1.0, 1.0]) == 0 and tail([-1.0, -1.0]) == 1 and tail([0.0, 0.0]) == 0.5


def test_holms_correction():
    """Multiplied by 4, 3, 2, 1 from the smallest on, and never falling."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.7, 0.9]) == [1.0, 1.0]


@pytest.mark.parametrize("relation", ["above", "below", "not above", "not below"])
@pytest.mark.parametrize(
    "values", [CLEAR, WEAK, [-x for x in CLEAR], [0.01, -0.01, 0.02, 0.0, 0.01], [3.0, -3.0, 1.0]]
)
def test_one_comparison_alone_is_judged_as_by_its_interval(relation, values):
    assert judge_together([(relation, values)]) == [judge(relation, values)]


def test_more_comparisons_ask_for_more():
    assert judge("above", WEAK) == HOLDS
    many = judge_together([("above", WEAK), *[("above", [0.2, -0.3, 0.1])] * 9, ("above", CLEAR)])
    assert many[0] == OPEN and many[-1] == HOLDS and set(many[1:-1]) == {OPEN}


def test_what_has_not_run_is_not_paid_for():
    found = judge_together([("above", WEAK), *[("above", [0.2, 0.1])] * 20])
    assert found == [HOLDS, *[NOT_RUN] * 20]


def test_margins_are_those_of_judge():
    assert strongest("not below", [-0.2, -0.21, -0.19])[1] == HOLDS
    assert strongest("not below", [-0.9, -0.91, -0.89])[1] == FAILS
    with pytest.raises(ValueError, match="unknown relation 'like'; choose one of above, below"):
        strongest("like", WEAK)
