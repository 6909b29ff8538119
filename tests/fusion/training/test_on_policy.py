"""The student's own completions: what they are, who scores them, what is learnt."""

import copy
import json

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch
from scipy.stats import chisquare

from fusion import evaluate
from fusion.tasks import Problem
from fusion.teachers.live import LiveTeacher
from fusion.text.align import align
from fusion.text.conversations import encode
from fusion.training.config import FusionConfig
from fusion.training.on_policy import Draws, Share
from fusion.training.trainer import FusionTrainer
from tests.fusion import reference, tiny
from tests.fusion.taught import EXAMPLES, K, weights_of


@pytest.fixture(scope="module")
def live(gpt2):
    """Two teachers of different tokenizers."""
    return {"gpt2": LiveTeacher(*gpt2, K), "other": LiveTeacher(*tiny.llama(seed=5), K)}


@pytest.fixture
def made(tmp_path, llama, live):
    """Make a trainer of a copy of the tiny Llama that learns what it writes."""

    def make(teachers=("gpt2", "other"), prompts=None, model=None, **settings):
        defaults = {
            "output_dir": str(tmp_path / "out"),
            "use_cpu": True,
            "disable_tqdm": True,
            "log_level": "error",
            "report_to": "none",
            "save_strategy": "no",
            "k": K,
            "max_steps": 4,
            "logging_steps": 1,
            "per_device_train_batch_size": 4,
            "fusion_weight": 0.4,
            "on_policy": 1.0,
            "on_policy_length": 6,
        }
        return FusionTrainer(
            copy.deepcopy(llama[0]) if model is None else model,
            FusionConfig(**defaults | settings),
            EXAMPLES,
            processing_class=llama[1],
            live_teachers={name: live[name] for name in teachers},
            prompts=prompts,
        )

    return make


def written(trainer, step, share):
    """The tokens of one rank's completions, batch by batch."""
    found = []
    for batch in trainer._own.batches(trainer.model, step, share):
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            found.append(ids[mask.bool()].tolist())
    return found


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_are_of_the_softmax(temperature):
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -torch.inf], dtype=torch.float64)
    count = 2000
    generators = [torch.Generator().manual_seed(i) for i in range(count)]
    draws = Draws(generators, temperature)
    tokens = draws(None, logits.expand(count, -1)).argmax(dim=1)
    frequency = torch.bincount(tokens, minlength=5)
    expected = count * (logits / temperature).softmax(dim=0)
    assert frequency[4] == 0
    assert chisquare(frequency[:4], expected[:4]).pvalue > 1e-3


def test_at_a_temperature_near_0_it_writes_what_it_holds_likeliest(made, llama):
    trainer = made(on_policy_temperature=1e-6)
    texts = evaluate.generate(*llama, trainer._own.prompts, 6, 24)
    known = {
        tuple(encode(tiny.Example(p.prompt, text), llama[1]).input_ids.tolist())
        for p, text in zip(trainer._own.prompts, texts, strict=True)
    }
    assert {tuple(ids) for ids in written(trainer, 0, Share(0, 1, 1, 8))} < known


def test_completions_hang_on_seed_and_step_alone(made):
    """Neither on batches nor on ranks, and nothing else that is drawn hangs on them."""
    trainer = made()
    torch.manual_seed(0)
    whole = written(trainer, 3, Share(0, 1, 1, 8))
    after = torch.rand(3)
    assert written(trainer, 3, Share(0, 1, 2, 4)) == whole
    of_ranks = [written(trainer, 3, Share(rank, 2, 2, 2)) for rank in (0, 1)]
    # Ranks take batches in turns.
    first, second = of_ranks
    assert first[:2] + second[:2] + first[2:] + second[2:] == whole
    assert written(trainer, 2, Share(0, 1, 1, 8)) != whole
    assert written(made(seed=1), 3, Share(0, 1, 1, 8)) != whole
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(3))


def test_answers_to_one_prompt_are_drawn_apart(made):
    trainer = made(prompts=[Problem("one and", "", "")])
    found = written(trainer, 0, Share(0, 1, 1, 8))
    assert len(set(map(tuple, found))) == 8


def test_every_prompt_is_asked_before_one_is_asked_again(made):
    prompts = [Problem(f"{number} and", "", "") for number in range(5)]
    trainer = made(prompts=prompts)
    asked = []
    for batch in trainer._own.batches(trainer.model, 0, Share(0, 1, 2, 5)):
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            prompt = ids[: int((labels != -100).float().argmax())]
            asked.append(trainer._tokenizer.decode(prompt, skip_special_tokens=True))
    assert asked[:5] == asked[5:]
    assert sorted(asked[:5]) == [problem.prompt for problem in prompts]


def test_a_share_of_the_steps_is_chosen(made):
    taken = {}
    for share in (0.0, 0.25, 1.0):
        own = made(on_policy=share)._own if share else None
        taken[share] = [own is not None and own.takes(step) for step in range(1000)]
    assert sum(taken[0.0]) == 0
    assert sum(taken[1.0]) == 1000
    assert abs(sum(taken[0.25]) - 250) < 3 * np.sqrt(1000 * 0.25 * 0.75)


def test_the_loss_is_that_of_the_formula_without_labels(made, gpt2):
    """w · Σ c · ULD / Σ c over the pairs of both teachers, from the texts anew."""
    trainer = made(per_device_train_batch_size=2, max_steps=1)
    before = copy.deepcopy(trainer.model).eval()
    batches = trainer._own.batches(trainer.model, 0, Share(0, 1, 1, 2))
    tokenizer = trainer._tokenizer
    teachers = {"gpt2": gpt2, "other": tiny.llama(seed=5)}
    total, pairs = 0.0, 0
    for example in examples_of(trainer, batches):
        ours, code = logits_of(before, tokenizer, example)
        for model, other in teachers.values():
            theirs, read = logits_of(model, other, example)
            at, to = align(code.ends, read.ends, student_start=code.start)
            for i, j in zip(at, to, strict=True):
                s, _ = reference.row(ours[i], K, "none")
                t, _ = reference.row(theirs[j], K, "none")
                total += sum(abs(x - y) for x, y in zip(s, t, strict=True))
                pairs += 1
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["own_uld"] == pytest.approx(total / pairs, rel=2e-3)
    assert logged["loss"] == pytest.approx(0.4 * total / pairs, rel=2e-3)
    assert "sft" not in logged


def examples_of(trainer, batches):
    """What the student wrote, read back from the tokens of batches."""
    for batch in batches:
        for ids, labels, mask in zip(
            batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
        ):
            first = int((labels != -100).float().argmax())
            last = int(mask.sum()) - 1  # the end
            decode = trainer._tokenizer.decode
            yield tiny.Example(
                decode(ids[:first], skip_special_tokens=True), decode(ids[first:last])
            )


@torch.no_grad()
def logits_of(model, tokenizer, example):
    """Logits before each token of a completion, in float64, and its tokens."""
    code = encode(example, tokenizer)
    logits = model(torch.tensor(code.input_ids)[None]).logits[0]
    return logits[code.positions].double(), code


def test_an_interrupted_run_ends_with_the_same_weights(made, llama, tmp_path):
    """Steps on the data and steps of its own, where dropout draws beside them."""
    settings = {
        "on_policy": 0.5,
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": 3,
        "learning_rate": 1e-2,
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 2,
    }

    def student():
        model = copy.deepcopy(llama[0])
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.3
        return model

    whole = made(model=student(), output_dir=str(tmp_path / "whole"), **settings)
    whole.train()
    kinds = {"own_uld" in row for row in whole.state.log_history if "loss" in row}
    assert kinds == {True, False}
    resumed = made(model=student(), output_dir=str(tmp_path / "again"), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert torch.equal(weights_of(whole), weights_of(resumed))


def test_what_it_writes_becomes_what_the_teacher_would_say(made):
    trainer = made(
        teachers=["other"],
        alignment="kl",
        fusion_weight=1.0,
        learning_rate=2e-2,
        lr_scheduler_type="constant",
        per_device_train_batch_size=8,
        max_steps=12,
        head_chunk=16,
    )
    trainer.train()
    losses = [row["own_kl"] for row in trainer.state.log_history[:-1]]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


def test_stores_teach_the_data_and_live_teachers_the_own_completions(made, stores):
    trainer = made(
        teachers=["other"],
        stores={"gpt2": stores["gpt2"]},
        on_policy=0.5,
        max_steps=6,
        log_term_gradients=True,
    )
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    own = [{"own_uld/other", "own_gradient/uld/other"} <= row.keys() for row in rows]
    data = [{"sft", "uld/gpt2", "gradient/sft"} <= row.keys() for row in rows]
    assert True in own
    assert True in data
    assert all(a != b for a, b in zip(own, data, strict=True))
    assert not any("own_sft" in row or "own_gradient/sft" in row for row in rows)


def test_a_student_that_writes_nothing_learns_nothing(made, llama):
    """Its end is all that it draws: no text is left to compare."""
    model = copy.deepcopy(llama[0])
    end = llama[1].eos_token_id
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
    head = torch.nn.Linear(32, len(llama[1]))
    head.weight = model.lm_head.weight
    head.bias = torch.nn.Parameter(torch.zeros(len(llama[1])))
    head.bias.data[end] = 100.0
    model.lm_head = head
    trainer = made(model=model, max_steps=2)
    before = weights_of(trainer)
    trainer.train()
    assert torch.equal(weights_of(trainer), before)
    assert [row["loss"] for row in trainer.state.log_history[:-1]] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"alignment": "kl"}, "but gpt2 has another"),
        ({"prompts": []}, "There must be a prompt for on_policy"),
        ({"on_policy_length": 510}, "lower on_policy_length or leave them out"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_work(made, settings, words):
    with pytest.raises(ValueError, match=words):
        made(**settings)


def test_the_command_trains_with_live_teachers(llama, gpt2, tmp_path, capsys):
    from fusion.__main__ import main

    for name, parts in (("student", llama), ("teacher", gpt2)):
        for part in parts:
            part.save_pretrained(tmp_path / name)
    rows = [{"prompt": e.prompt, "completion": e.completion} for e in EXAMPLES[:4]]
    for name, chosen in (("data", rows), ("asked", [{"prompt": "What is 1 plus 2?"}])):
        text = "".join(json.dumps(row) + "\n" for row in chosen)
        (tmp_path / f"{name}.jsonl").write_text(text)
    words = [
        "train",
        f"student={tmp_path / 'student'}",
        f"data={tmp_path / 'data.jsonl'}",
        f"live_teachers.gpt2={tmp_path / 'teacher'}",
        f"on_policy_prompts={tmp_path / 'asked.jsonl'}",
        "on_policy=1",
        "on_policy_length=4",
        "max_steps=2",
        "use_cpu=true",
        "report_to=none",
        "log_level=warning",
        "save_strategy=no",
        f"output_dir={tmp_path / 'out'}",
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "Own completions: 100% of the steps, of 1 prompts" in said.err
    assert "scored by gpt2 (model" in said.err
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert main([word for word in words if "live_teachers" not in word]) == 2
    assert "live_teachers must name a teacher" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_student_on_a_device_writes_there(made):
    trainer = made(use_cpu=False, bf16=True, on_policy_length=4)
    trainer.train()
    assert trainer.model.device.type == "cuda"
    assert all("own_uld" in row for row in trainer.state.log_history[:-1])
