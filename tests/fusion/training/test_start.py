"""What a run says at its start: each number is the one that is trained with."""

import pytest

from fusion.teachers.capture import capture
from fusion.text.rows import ExamplesWarning
from fusion.training.config import FusionConfig
from fusion.training.trainer import FusionTrainer
from tests.fusion import tiny

EXAMPLES = tiny.sums(8)


@pytest.fixture(scope="module")
def stores(tmp_path_factory, gpt2):
    folder = tmp_path_factory.mktemp("start")
    for name, count in (("all", 8), ("few", 3)):
        capture(*gpt2, EXAMPLES[:count], folder / name, k=10, progress=False)
    return {name: str(folder / name) for name in ("all", "few")}


@pytest.fixture
def made(tmp_path, stores):
    def make(examples=EXAMPLES, held_out=None, teachers=("all", "few"), **settings):
        defaults = {
            "output_dir": str(tmp_path),
            "stores": {name: stores[name] for name in teachers},
            "use_cpu": True,
            "disable_tqdm": True,
            "save_strategy": "no",
            "max_steps": 2,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 3,
            "least_coverage": 0.0,
            "logging_steps": 1,
            "graph": "row_means",
            "fusion_weight": 0.5,
        }
        model, tokenizer = tiny.llama()
        args = FusionConfig(**defaults | settings)
        return FusionTrainer(
            model, args, examples, held_out, processing_class=tokenizer
        )

    return make


def said(made, capsys):
    capsys.readouterr()
    made.train()
    return capsys.readouterr().err.splitlines()


def test_five_lines_and_one_for_each_further_store(made, capsys, tmp_path):
    trainer = made(held_out=EXAMPLES[:4], trained_layers=1)
    student, data, *stores, weights, loss = said(trainer, capsys)
    parameters = list(trainer.model.parameters())
    counts = [
        sum(p.numel() for p in parameters if p.requires_grad),
        sum(p.numel() for p in parameters),
    ]
    assert f"{counts[0]:,} of {counts[1]:,} parameters trained" in student
    assert "2 steps, 6 examples a step." in student
    tokens = sum(trainer.train_dataset.lengths())
    labels = sum(f["encoded"].completion_mask.sum() for f in trainer.train_dataset)
    assert f"8 examples of {tokens:,} tokens, {labels:,} of them learnt" in data
    assert "rows left out: 0" in data
    assert "max_length 1024, context of the student 512" in data
    assert data.endswith("4 held out.")
    assert "Store all: holds 8 of 8 examples (100%)" in stores[0]
    assert "Store few: holds 3 of 8 examples (38%)" in stores[1]
    assert "held out 3 of 4 examples (75%); k = 10" in stores[1]
    # 3 of 8 have both teachers.
    assert "all 0.812, few 0.188 on average, equal" in weights
    assert "(1 · ULD + 1 · GLD), w = 0.5" in loss
    assert loss.endswith(f"saved to {tmp_path}.")


def test_what_is_left_out_and_cut_is_counted(made, capsys):
    long = tiny.Example("sum " * 60, "7")
    cut = tiny.Example("What is 1 plus 1?", " The sum" * 40)
    with pytest.warns(ExamplesWarning):
        trainer = made(
            [*EXAMPLES, long, cut],
            max_length=48,
            on_bad_rows="drop",
            teachers=("all",),
        )
    data = said(trainer, capsys)[1]
    assert data.startswith("Data: 9 examples")
    assert "rows left out: 1, completions cut of 1 (max_length 48" in data


def test_weights_by_likelihood_name_their_scale(made, capsys):
    lines = said(made(weighting="ce", ce_temperature=0.25), capsys)
    assert "e times for 0.25 nats a byte (ce_temperature)." in lines[-2]
    # Both stores say the same: nothing tells them apart.
    lines = said(made(weighting="ce"), capsys)
    assert "all 0.812, few 0.188" in lines[-2]
    assert "e times for 1 nats a byte (the teachers' median difference)" in lines[-2]


def test_schedules_and_no_teachers_are_said(made, capsys):
    lines = said(made(teachers=(), fusion_schedule="cosine", graph=None), capsys)
    assert len(lines) == 5
    assert lines[2] == "Stores: none, so that labels alone are learnt."
    assert "· SFT, w from 0.5 to 0 (cosine); saved" in lines[4]
    lines = said(made(graph=None), capsys)
    assert "· SFT + w · (1 · ULD), w = 0.5; saved" in lines[-1]


def test_it_is_silenced_by_the_level_of_logs(made, capsys):
    assert said(made(log_level="error"), capsys) == []
