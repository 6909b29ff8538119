"""Parts of a trainer: what joins batches, and who scores own completions."""

import pytest

pytest.importorskip("transformers")

from fusion.training.config import FusionConfig
from fusion.training.parts import check_live, checked, collator_of, student_of


def test_somebody_scores_what_a_student_writes():
    check_live(0.0, [])
    check_live(0.5, ["a"])
    with pytest.raises(ValueError, match="live_teachers must name a teacher where"):
        check_live(0.5, [])


def test_a_collator_is_made_as_the_settings_say(llama):
    args = FusionConfig("out", use_cpu=True, k=3, align="positional", weighting="ce")
    made = collator_of({}, llama[1], checked(args), None)
    assert (made.k, made.how, made.weighting) == (3, "positional", "ce")
    assert (made.padding, made.ce_temperature) == (llama[1].pad_token_id, 1.0)


def test_a_student_must_be_named():
    assert student_of(FusionConfig("out", student="here", use_cpu=True)) == "here"
    with pytest.raises(ValueError, match="student must name a model"):
        student_of(FusionConfig("out", use_cpu=True))
