"""Training on a device, in its quick form on the CPU."""

import pytest

pytest.importorskip("transformers")

from simulations import gpu_training
from simulations._report import read_rows


def test_every_loss_is_measured_with_the_head_in_chunks_and_whole(tmp_path, capsys):
    gpu_training.main(["--out", str(tmp_path), "--quick", "--device", "cpu"])
    (folder,) = {path.parent for path in tmp_path.parent.rglob("training.csv")}
    rows = read_rows(folder / "training.csv")
    assert [(row["losses"], row["head_chunk"]) for row in rows] == [
        (losses, chunk) for losses in gpu_training.LOSSES for chunk in (128, 0)
    ]
    assert all(row["tokens_a_second"] > 0 for row in rows)
    # The same step, but for the rounding of bfloat16.
    for chunked, whole in zip(rows[::2], rows[1::2], strict=True):
        assert chunked["loss"] == pytest.approx(whole["loss"], rel=1e-2)
    assert "ULD + GLD" in capsys.readouterr().out


def test_without_a_device_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu_training.main(["--out", str(tmp_path)]) == 0
    assert "Skipped: PyTorch finds no CUDA device." in capsys.readouterr().out
