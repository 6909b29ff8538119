"""Checkpoints: the newest whole one is found, whatever a killed process left."""

from fusion.training.checkpoints import newest_checkpoint


def test_checkpoints_that_were_cut_off_are_passed_over(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for step, state in ((2, "{}"), (10, "{}"), (11, '{"global'), (12, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
