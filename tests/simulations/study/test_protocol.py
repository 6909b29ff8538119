"""What the study runs: cells of a protocol, tuning, and what is refused."""

import dataclasses
from pathlib import Path

import pytest
import yaml

pytest.importorskip("transformers")

from simulations import fusion_study
from simulations.study import protocol
from simulations.study.arms import ARMS
from simulations.study.tables import COMPARISONS, PRIMARY_FAMILIES
from simulations.study.tasks import FAMILIES

PLANS = (fusion_study.CONFIG, fusion_study.QUICK)


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_every_cell_is_asked_for_once(path):
    cells = protocol.cells(protocol.read(path))
    keys = [cell.key for cell in cells]
    assert len(keys) == len(set(keys)) > 0
    for cell in cells:
        # Tokens are compared of a teacher that has the student's.
        assert not cell.of.same_tokens or cell.teacher == "byte"
        assert cell.of.taught or cell.teacher == FAMILIES[cell.family].teacher


def test_the_study_holds_what_it_says_beforehand():
    """Fifteen seeds of the primary comparison on a family of each teacher."""
    plan = protocol.read(fusion_study.CONFIG)
    cells = protocol.cells(plan)
    arms = {arm for pair in COMPARISONS for arm in pair}
    for family in PRIMARY_FAMILIES:
        for arm in arms:
            own = FAMILIES[family].teacher
            key = (family, arm, own)
            seeds = {c.seed for c in cells if (c.family, c.arm, c.teacher) == key}
            assert seeds == set(range(15))
    assert {FAMILIES[family].teacher for family in PRIMARY_FAMILIES} == {
        "byte",
        "bpe",
        "packed",
    }
    core = plan.stages["core"]
    assert set(core.families) == set(FAMILIES)
    assert core.seeds == 5
    assert len(set(core.arms) - {"before"}) == 10
    # Every arm is run somewhere.
    assert {cell.arm for cell in cells} == set(ARMS)
    # The seed of tuning is that of no cell.
    assert plan.tuning.seed not in {cell.seed for cell in cells}


def test_a_study_that_is_cut_off_has_all_arms_with_fewer_seeds():
    plan = protocol.read(fusion_study.CONFIG)
    for name in plan.stages:
        seeds = [cell.seed for cell in protocol.cells(plan) if cell.stage == name]
        assert seeds == sorted(seeds)


def test_arms_are_tuned_alike_and_controls_as_what_they_control():
    plan = protocol.read(fusion_study.CONFIG)
    tuned = protocol.tuned_arms(protocol.cells(plan))
    assert tuned[:2] == list(protocol.BASES)
    assert {len(protocol.values(plan, arm)) for arm in tuned} == {3}
    for name, arm in ARMS.items():
        if arm.tuned_as is not None:
            assert arm.tuned_as in tuned
            assert name not in tuned


def test_the_best_value_is_the_smallest_of_the_best():
    rows = [
        {"arm": "uld", "value": value, "accuracy": accuracy}
        for value, accuracy in ((0.1, 0.5), (1.0, 0.7), (0.3, 0.7))
    ]
    assert protocol.best(rows, "uld") == 0.3
    with pytest.raises(ValueError, match="gld must be tuned before it is run"):
        protocol.best(rows, "gld")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unheard": 1}, "protocol settings must be among"),
        ({"tuning": {"unheard": 1}}, "tuning settings must be among"),
        ({"stages": {"a": {"families": ["chess"]}}}, "families must be among"),
        ({"stages": {"a": {"arms": ["wing"]}}}, "arms must be among"),
    ],
)
def test_unknown_names_are_refused(change, words, tmp_path):
    given = yaml.safe_load(Path(fusion_study.QUICK).read_text())
    stage = {"families": ["dyck_languages"], "arms": ["labels"], "seeds": 1}
    if "stages" in change:
        change = {"stages": {"a": stage | change["stages"]["a"]}}
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(given | change))
    with pytest.raises(ValueError, match=words):
        protocol.read(path)


def test_the_budget_of_a_run_is_no_fact_of_its_numbers():
    plan = protocol.read(fusion_study.QUICK)
    more = dataclasses.replace(plan, stages={})
    assert plan.facts() == more.facts()
    longer = dataclasses.replace(plan, steps=plan.steps + 1)
    assert plan.facts() != longer.facts()
