"""Teachers are chosen by domain: near the best one, and better than the student."""

import pytest

pytest.importorskip("transformers")

from hypothesis import given
from hypothesis import strategies as st

from fusion.teachers.choice import chosen
from fusion.teachers.report import Knowledge, Report


def report(costs):
    """A report of NLLs by domain and teacher."""
    return Report(
        tuple(
            Knowledge(domain, teacher, 1, 1, nll, 0.0)
            for domain, by_teacher in costs.items()
            for teacher, nll in by_teacher.items()
        ),
        (),
    )


COSTS = {
    "sums": {"small": 0.9, "large": 0.2, "other": 0.4, "none": 0.41},
    "logic": {"small": 0.1, "large": 0.3, "other": 2.0},
    "own": {"small": 0.5},
}


def test_the_rule_by_hand():
    assert chosen(report(COSTS)) == {
        "sums": ["large", "other"],
        "logic": ["small"],
        "own": ["small"],
    }
    assert chosen(report(COSTS), student="small") == {
        "sums": ["large", "other"],
        "logic": [],
        "own": [],
    }
    assert chosen(report(COSTS), ratio=1.0)["sums"] == ["large"]


@given(
    st.dictionaries(st.sampled_from("abcde"), st.floats(0, 9), min_size=1),
    st.floats(1, 5),
)
def test_the_best_teacher_is_the_first_of_those_near_it(costs, ratio):
    (found,) = chosen(report({"": costs}), ratio=ratio).values()
    least = min(costs.values())
    assert costs[found[0]] == least
    assert [costs[name] for name in found] == sorted(costs[name] for name in found)
    assert set(found) == {n for n, nll in costs.items() if nll <= ratio * least}


def test_a_ratio_below_1_would_leave_out_the_best():
    with pytest.raises(ValueError, match="ratio must be a finite number at least 1"):
        chosen(report(COSTS), ratio=0.5)
