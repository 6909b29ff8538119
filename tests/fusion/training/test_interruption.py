"""Interrupted, a run saves and says how to go on; resumed, it ends as undisturbed."""

import signal
import threading

import pytest
import torch

from fusion.__main__ import main
from fusion.teachers.capture import capture
from fusion.training.checkpoints import newest_checkpoint
from fusion.training.interruption import Interruption, TrainingInterrupted
from tests.fusion import runs

SETTINGS = {
    "max_steps": 6,
    "save_strategy": "no",
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "report_to": "none",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory, gpt2):
    path = tmp_path_factory.mktemp("interruption") / "gpt2"
    capture(*gpt2, runs.EXAMPLES, path, progress=False)
    return str(path)


@pytest.fixture
def run(forkserver, store):
    def started(folder, target, signals=None, settings=SETTINGS, ranks=1):
        folder.mkdir(exist_ok=True)
        places = [()] if ranks == 1 else [(place, ranks) for place in range(ranks)]
        processes = []
        for place in places:
            words = [*place, str(folder), store, settings]
            if signals is not None:
                words.append(signals)
            processes.append(forkserver.Process(target=target, args=words, daemon=True))
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return [process.exitcode for process in processes]

    return started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_resumed_a_run_ends_with_the_same_weights(
    run, tmp_path, number
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(whole, runs.train) == [0]
    assert run(cut, runs.interrupted, runs.Signals(2, number)) == [0]
    assert not (cut / "done.pt").exists()
    said = "Interrupted at step 2 of 6: go on with resume_from_checkpoint=auto."
    assert (cut / "said-0").read_text() == said
    assert newest_checkpoint(cut) == str(cut / "checkpoint-2")
    assert run(cut, runs.train) == [0]
    first, second = (torch.load(f / "done.pt") for f in (whole, cut))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_second_signal_ends_at_once(run, tmp_path):
    signals = runs.Signals(2, signal.SIGTERM, signal.SIGTERM)
    assert run(tmp_path, runs.interrupted, signals) == [-signal.SIGTERM]
    assert newest_checkpoint(tmp_path) is None


def test_all_ranks_stop_after_the_step_in_which_one_is_interrupted(run, tmp_path):
    signals = runs.Signals(2, signal.SIGINT, rank=1)
    codes = run(tmp_path, runs.interrupted_rank, signals, ranks=2)
    assert codes == [0, 0]
    for rank in range(2):
        assert "at step 2 of 6" in (tmp_path / f"said-{rank}").read_text()
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")


def test_after_the_last_step_a_run_can_go_on_too(run, tmp_path):
    settings = SETTINGS | {"save_total_limit": 1}
    signals = runs.Signals(6, signal.SIGINT)
    assert run(tmp_path, runs.interrupted, signals, settings) == [0]
    assert "at step 6 of 6" in (tmp_path / "said-0").read_text()
    assert run(tmp_path, runs.train) == [0]


def test_handlers_are_restored_and_late_signals_repeated():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), Interruption(None):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), Interruption(None):
        raise ZeroDivisionError
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert before == after


def test_other_threads_train_without_handlers():
    errors = []

    def enter():
        try:
            with Interruption(None):
                assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert errors == []


@pytest.mark.parametrize(
    ("error", "said"),
    [(TrainingInterrupted("At step 2."), "At step 2."), (KeyboardInterrupt(), "Inter")],
)
def test_the_command_line_says_so_and_ends_with_130(monkeypatch, capsys, error, said):
    def interrupted(_):
        raise error

    monkeypatch.setattr("fusion.commands.report", interrupted)
    assert main(["report"]) == 130
    assert capsys.readouterr().err.startswith(f"fusion: {said}")
