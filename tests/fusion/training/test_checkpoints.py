"""Checkpoints: the newest whole one is found, whatever a killed process left."""

import pytest

from fusion.training.checkpoints import newest_checkpoint


def test_checkpoints_that_were_cut_off_are_passed_over(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for step, state in ((2, "{}"), (10, "{}"), (11, '{"global'), (12, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


@pytest.mark.parametrize(
    "name",
    [
        "best",
        "",
        "20-best",
        "best-20",
        "-20",
        "20.bak",
        "20 ",
        "+20",
        "2_0",
        "2e1",
        "²",
        "٣",
    ],
)
def test_what_is_no_numbered_checkpoint_is_passed_over(tmp_path, name):
    other = tmp_path / f"checkpoint-{name}"
    other.mkdir()
    (other / "trainer_state.json").write_text("{}")
    assert newest_checkpoint(tmp_path) is None
    for step in (2, 10):
        numbered = tmp_path / f"checkpoint-{step}"
        numbered.mkdir()
        (numbered / "trainer_state.json").write_text("{}")
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


def test_files_are_no_checkpoints(tmp_path):
    (tmp_path / "checkpoint-3").write_text("{}")
    assert newest_checkpoint(tmp_path) is None
