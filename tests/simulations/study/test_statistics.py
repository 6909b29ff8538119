"""Statistics of the study: hand-worked values, and what holds of all of them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simulations.study import statistics
from simulations.study.statistics import (
    GAIN,
    LOSS,
    NEITHER,
    Interval,
    correlation,
    half_width,
    holm,
    interval,
    own_teachers,
    paired,
    permutation_p,
    power,
    transfer_gains,
    verdict,
)

FAMILY = "dyck_languages"


def cell(arm, seed, accuracy, family=FAMILY, stage="core", teacher="byte"):
    return {
        "stage": stage,
        "family": family,
        "arm": arm,
        "seed": seed,
        "teacher": teacher,
        "accuracy": accuracy,
    }


def test_pairs_are_of_common_families_and_seeds_and_never_of_tuning():
    rows = [
        cell("uld", 2, 0.75),
        cell("uld", 0, 0.5),
        cell("uld", 1, 0.9, stage="tuning"),
        cell("uld", 3, math.nan),
        cell("uld", 4, ""),
        cell("uld", 0, 0.3, family="formal_logic"),
        cell("uld", 7, 0.3, family="causal_judgement"),
        *(cell("labels", seed, 0.25, stage="primary") for seed in range(5)),
        cell("labels", 0, 0.4, family="formal_logic"),
    ]
    found = paired(rows, "uld", "labels")
    assert list(found) == [FAMILY, "formal_logic"]
    assert found[FAMILY].tolist() == [0.25, 0.5]  # seeds 0 and 2
    assert found["formal_logic"] == pytest.approx([-0.1])
    assert list(paired(rows, "uld", "labels", ["formal_logic", "none"])) == [
        "formal_logic"
    ]
    assert paired(rows, "uld", "sequence") == {}


def test_a_cell_recorded_twice_counts_once_and_contradictions_are_refused():
    rows = [cell("uld", 0, 0.5), cell("uld", 0, 0.5, stage="primary")]
    rows.append(cell("labels", 0, 0.25))
    assert paired(rows, "uld", "labels")[FAMILY].tolist() == [0.25]
    with pytest.raises(ValueError, match="with seed 0 has two accuracies"):
        paired([*rows, cell("uld", 0, 0.6)], "uld", "labels")


def test_cells_of_other_teachers_are_never_mixed():
    rows = [
        *(cell("labels", seed, 0.25) for seed in range(3)),
        *(cell("uld", seed, 0.5) for seed in range(2)),
        *(cell("uld", seed, 0.125, teacher="bpe") for seed in range(1, 3)),
        cell("sequence", 1, 0.75),
        cell("sequence", 1, 0.25, teacher="bpe", stage="transfer"),
    ]
    assert paired(rows, "uld", "labels")[FAMILY].tolist() == [0.25, 0.25]
    bpe = paired(rows, "uld", "labels", teacher="bpe")
    assert bpe[FAMILY].tolist() == [-0.125, -0.125]
    assert paired(rows, "uld", "sequence")[FAMILY].tolist() == [-0.25]
    of_bpe = paired(rows, "uld", "sequence", teacher="bpe")
    assert of_bpe[FAMILY].tolist() == [-0.125]
    gains = transfer_gains(rows, "uld", "labels")
    assert [(g["teacher"], g["gain"], g["pairs"]) for g in gains] == [
        ("bpe", -0.125, 2),
        ("byte", 0.25, 2),
    ]
    assert gains[1]["least"] == gains[1]["most"] == 0.25
    single = transfer_gains(rows, "sequence", "labels")
    assert [(g["teacher"], g["gain"]) for g in single] == [("bpe", 0.0), ("byte", 0.5)]
    assert single[0]["least"] == single[0]["most"] == 0.0


def test_the_teacher_of_a_family_is_named_by_arms_without_one():
    both = [cell("uld", 0, 0.5), cell("uld", 0, 0.5, teacher="bpe")]
    assert own_teachers(both) == {}
    assert paired([*both, cell("gld", 0, 0.25)], "uld", "gld") == {}
    assert own_teachers(both[:1]) == {FAMILY: "byte"}
    assert own_teachers([*both, cell("before", 0, 0.1)]) == {FAMILY: "byte"}


def test_of_one_family_the_interval_is_that_of_a_t_test(rng):
    d = rng.normal(0.03, 0.05, 9)
    found = interval({FAMILY: d})
    truth = stats.ttest_1samp(d, 0)
    low, high = truth.confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((d.mean(), low, high))
    assert found.degrees == pytest.approx(8)
    assert found.error == pytest.approx(d.std(ddof=1) / 3)
    assert (found.pairs, found.families) == (9, 1)


def test_of_two_families_the_interval_is_that_of_welch(rng):
    """The mean of two means is half the difference of one and the other's negative."""
    a, b = rng.normal(0.1, 0.05, 5), rng.normal(-0.02, 0.2, 15)
    found = interval({"a": a, "b": b})
    truth = stats.ttest_ind(a, -b, equal_var=False)
    low, high = truth.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low / 2, high / 2))
    assert found.degrees == pytest.approx(truth.df)
    assert found.mean == pytest.approx((a.mean() + b.mean()) / 2)


def test_families_weigh_alike_however_many_seeds_they_have():
    found = interval({"a": np.full(3, 0.5), "b": np.full(15, 0.25)})
    assert (found.mean, found.low, found.high, found.error) == (0.375, 0.375, 0.375, 0)
    assert (found.pairs, found.families) == (18, 2)
    assert found.degrees > 0
    assert verdict(found) == GAIN


def test_tiny_deviations_keep_their_degrees_of_freedom():
    d = np.array([1.0, 2.0, 3.0])
    assert interval({"a": d * 1e-90}).degrees == pytest.approx(2)


def test_one_seed_leaves_the_interval_open():
    found = interval({"a": np.array([0.5]), "b": np.array([0.25, 0.75])})
    assert (found.mean, found.pairs, found.families) == (0.5, 3, 2)
    assert math.isnan(found.low)
    assert math.isnan(found.error)
    assert verdict(found) == NEITHER
    nothing = interval({})
    assert math.isnan(nothing.mean)
    assert (nothing.pairs, nothing.families) == (0, 0)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.01, 0.2, GAIN),
        (-0.2, -0.01, LOSS),
        (-0.1, 0.3, NEITHER),
        (0.0, 0.1, NEITHER),
        (-0.1, 0.0, NEITHER),
    ],
)
def test_verdicts_are_of_the_whole_interval(low, high, word):
    middle = (low + high) / 2
    assert verdict(Interval(middle, low, high, 0.1, 4.0, 5, 1)) == word


@pytest.mark.parametrize("n", [1, 5, 16])
def test_constant_differences_have_the_least_p_of_the_permutation_test(n):
    assert permutation_p({FAMILY: np.full(n, 0.1)}) == 2 / 2**n
    assert permutation_p({FAMILY: np.full(n, -0.1)}) == 2 / 2**n
    assert permutation_p({FAMILY: np.zeros(n)}) == 1


def test_the_permutation_test_tries_all_signs_where_these_are_few(rng):
    groups = {"a": rng.normal(0.05, 0.1, 4), "b": rng.normal(0.02, 0.1, 6)}

    def statistic(signs):
        a, b = np.array(signs[:4]) * groups["a"], np.array(signs[4:]) * groups["b"]
        return abs(a.mean() + b.mean())

    least = statistic([1] * 10) * (1 - 1e-12)
    all_signs = list(itertools.product([1, -1], repeat=10))
    share = sum(statistic(signs) >= least for signs in all_signs) / len(all_signs)
    assert 0.01 < share < 1
    assert permutation_p(groups) == share
    one = permutation_p({"a": groups["a"]})
    scipys = stats.permutation_test(
        (groups["a"],), np.mean, permutation_type="samples", alternative="two-sided"
    )
    assert one == pytest.approx(scipys.pvalue)


def test_drawn_signs_agree_with_all_signs_and_never_give_zero(rng, monkeypatch):
    groups = {"a": rng.normal(0.05, 0.1, 6), "b": rng.normal(0.02, 0.1, 6)}
    exact = permutation_p(groups)
    monkeypatch.setattr(statistics, "EXACT", 0)
    drawn = permutation_p(groups)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=0.005)
    assert permutation_p(groups) == drawn
    assert permutation_p({"a": np.full(40, 0.1)}) == 1 / 100_001
    assert permutation_p({"a": np.full(40, 0.1)}, draws=15_000) == 1 / 15_001


def test_without_differences_there_is_no_p():
    assert math.isnan(permutation_p({}))


def test_holm_by_hand():
    # In order: 4 · 0.005, 3 · 0.01, 2 · 0.03, then 0.04 which may not be below that.
    adjusted = holm([0.01, 0.04, math.nan, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, math.nan, 0.06, 0.02], nan_ok=True)
    assert holm([0.5, 0.6]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_p_values_and_bonferroni(p_values):
    p = np.array(p_values)
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * p)).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    assert adjusted.min() == min(1, len(p) * p.min())
    assert holm(p[::-1]).tolist() == adjusted[::-1].tolist()


def test_half_widths_are_those_of_the_protocol():
    assert half_width(0.09, 5) == pytest.approx(0.1117, abs=1e-4)
    assert half_width(0.09, 15) == pytest.approx(0.0498, abs=1e-4)


def test_power_is_what_simulated_tests_find(rng):
    for seeds, expected in ((5, 0.1514), (15, 0.0700)):
        resolved = power(0.09, seeds)
        assert resolved == pytest.approx(expected, abs=1e-4)
        drawn = rng.normal(resolved, 0.09, (20_000, seeds))
        found = stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05
        assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_power_scales_with_the_deviation_and_falls_with_seeds():
    resolved = [power(0.09, seeds) for seeds in (2, 3, 5, 15, 200)]
    assert (np.diff(resolved) < 0).all()
    assert power(0.18, 5) == pytest.approx(2 * power(0.09, 5))
    assert power(0.0, 5) == 0
    assert power(0.09, 5, power=0.9) > power(0.09, 5)
    assert power(0.09, 5, level=0.01) > power(0.09, 5)


def test_correlations_are_those_of_scipy(rng):
    x = rng.normal(size=30)
    y = np.round(x + rng.normal(size=30), 1)  # with ties
    found = correlation([*x, math.nan], [*y, 1.0])
    pearson = stats.pearsonr(x, y)
    ends = pearson.confidence_interval(0.95)
    assert found.points == 30
    assert found.pearson == pytest.approx(pearson.statistic)
    assert (found.pearson_low, found.pearson_high) == pytest.approx(tuple(ends))
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.spearman_low < found.spearman < found.spearman_high
    # As wide as a normal approximation has it, which has no resamples (Fieller).
    half = 1.96 * 1.03 / math.sqrt(27)
    middle = math.atanh(found.spearman)
    assert found.spearman_low == pytest.approx(math.tanh(middle - half), abs=0.12)
    assert found.spearman_high == pytest.approx(math.tanh(middle + half), abs=0.12)
    assert correlation(x, y) == correlation(x, y)


def test_correlations_without_spread_or_points_are_open():
    for x, y in (([1, 2], [3, 4]), ([1, 1, 1, 1], [1, 2, 3, 4]), ([], [])):
        found = correlation(x, y)
        assert math.isnan(found.pearson)
        assert math.isnan(found.spearman_low)
    three = correlation([1, 2, 3], [1, 3, 2])
    assert three.pearson == pytest.approx(0.5)
    assert math.isnan(three.pearson_low)
    straight = correlation([1, 2, 3, 4, 5], [-2, -4, -6, -8, -10])
    assert straight.pearson == straight.pearson_low == straight.pearson_high == -1
    spearman = straight.spearman, straight.spearman_low, straight.spearman_high
    assert spearman == pytest.approx((-1, -1, -1))
