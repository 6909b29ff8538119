"""Training: the loss is its formula, a step its micro-batches; what is logged."""

import copy
import math

import numpy as np
import pytest
import torch

import fusion
from fusion.teachers.store import TeacherStore
from fusion.text.align import align
from fusion.text.conversations import encode
from tests.fusion import tiny
from tests.fusion.taught import EXAMPLES, HELD_OUT, SETTINGS, K, weights_of


def expected_loss(model, tokenizer, stores, examples, config):
    """The formula, one example at a time, in float64."""
    sft, uld, graph = [], [], []
    for example in examples:
        code = encode(example, tokenizer)
        ids = torch.from_numpy(code.input_ids)
        logits = model(ids[None]).logits[0, code.positions].double().detach()
        targets = ids[torch.from_numpy(code.completion_mask)]
        sft += torch.nn.functional.cross_entropy(
            logits, targets, reduction="none"
        ).tolist()
        seen = {
            name: store[example.key]
            for name, store in stores.items()
            if example.key in store
        }
        for name, rows in seen.items():
            tau = config.teacher_temperatures.get(name, config.temperature)
            ours = (
                np.sort(logits.numpy(), axis=1)[:, ::-1][:, :K]
                - logits.mean(1, keepdim=True).numpy()
            ) / tau
            theirs = (
                rows.values[:, :K].astype(float) - rows.mean.astype(float)[:, None]
            ) / tau
            ours_at, theirs_at = align(
                code.ends,
                rows.ends,
                student_start=code.start,
                teacher_start=rows.start,
            )
            pairs = zip(ours_at, theirs_at, strict=True)
            uld += [
                (1 / len(seen), np.abs(ours[i] - theirs[j]).sum()) for i, j in pairs
            ]
            means = [np.sort(H.T @ H.sum(axis=1)) / len(H) / K for H in (ours, theirs)]
            graph.append((1 / len(seen), np.abs(means[0] - means[1]).sum()))
    fused = [
        sum(w * v for w, v in term) / sum(w for w, _ in term) for term in (uld, graph)
    ]
    w = config.fusion_weight
    return (1 - w) * np.mean(sft) + w * (
        config.uld_weight * fused[0] + config.graph_weight * fused[1]
    )


def test_loss_is_that_of_the_formula_whatever_the_batches(trainer):
    for size in (1, 5, 24):
        made = trainer(held_out=HELD_OUT, per_device_eval_batch_size=size, **SETTINGS)
        stores = {name: TeacherStore(path) for name, path in made.args.stores.items()}
        expected = expected_loss(
            made.model, made.processing_class, stores, HELD_OUT, made.args
        )
        assert made.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_columns_of_no_token_have_no_part_in_the_loss(trainer, llama):
    """Heads are often padded; here with the largest logits of all."""
    model, tokenizer = copy.deepcopy(llama[0]), llama[1]
    model.resize_token_embeddings(len(tokenizer) + 9, mean_resizing=False)
    weight = model.get_output_embeddings().weight.data
    weight[len(tokenizer) :] = 5 * weight[:9]
    made = trainer(held_out=HELD_OUT, **SETTINGS)
    wanted = made.evaluate()
    padded = trainer(held_out=HELD_OUT, **SETTINGS)
    padded.model = padded.model_wrapped = model
    found = padded.evaluate()
    for name in ("loss", "sft", "uld", "graph"):
        name = f"eval_{name}"
        assert found[name] == pytest.approx(wanted[name], rel=1e-5), name


def kept_batches(made, monkeypatch):
    """Return a list that fills with the batches that a trainer takes."""
    batches = []
    take = made.get_batch_samples

    def kept(*arguments):
        taken = take(*arguments)
        batches.extend(taken[0])
        return taken

    monkeypatch.setattr(made, "get_batch_samples", kept)
    return batches


def targets(batch):
    """The token that each position of a batch predicts."""
    return batch["labels"][:, 1:]


def totals_of(batches):
    """The denominators of one step: tokens, and weighted pairs and sequences."""
    tokens = 0
    pairs = 0.0
    sequences = 0.0
    for batch in batches:
        tokens += int((targets(batch) != -100).sum())
        for teacher in batch["teachers"].values():
            weights = teacher["weights"]
            pairs += float((weights[:, None] * teacher["pairs"]).sum())
            sequences += float(weights.sum())
    return fusion.Totals(tokens, pairs, sequences)


def terms_of(batch):
    """The term of each teacher, from the arrays of a batch."""
    parts = ("values", "ids", "mask", "logsumexp", "mean", "std")
    terms = {}
    for name, teacher in batch["teachers"].items():
        rows = [teacher[part] for part in parts]
        terms[name] = fusion.TeacherTerm(
            fusion.TopKLogits(*rows, 10**6),
            teacher["student_index"] + batch["first"],
            teacher["teacher_index"],
            teacher["pairs"],
            weights=teacher["weights"],
            temperature={"other": 2.0}.get(name),
        )
    return terms


@pytest.mark.parametrize("weighting", ["uniform", "static", "ce"])
def test_a_step_is_that_of_the_public_loss_on_its_micro_batches(
    trainer, weighting, monkeypatch
):
    """Three micro-batches, some examples of which one teacher has not seen."""
    made = trainer(
        weighting=weighting,
        static_weights={"gpt2": 1.0, "other": 3.0},
        per_device_train_batch_size=3,
        gradient_accumulation_steps=3,
        max_steps=1,
        ce_temperature=0.5,
        **SETTINGS,
    )
    model = copy.deepcopy(made.model)
    batches = kept_batches(made, monkeypatch)
    made.train()
    assert len(batches) == 3
    seen = [
        teacher["weights"]
        for batch in batches
        for teacher in batch["teachers"].values()
    ]
    assert any((w == 0).any() and (w > 0).any() for w in seen)

    loss = fusion.FusionLoss(
        0.4,
        alignment_weight=0.7,
        graph="row_means",
        graph_weight=0.2,
        standardize="center",
        teacher_weights={"gpt2": 1.0, "other": 1.0},
    )
    totals = totals_of(batches)
    total = 0.0
    for batch in batches:
        mask = batch["attention_mask"]
        logits = model(batch["input_ids"], attention_mask=mask).logits[:, :-1]
        out = fusion.read(logits, targets(batch), K, statistics=True)
        result = loss(out.topk, out.nll, terms_of(batch), totals)
        total += float(result.total.detach())
    assert made.state.log_history[0]["loss"] == pytest.approx(total, rel=1e-5)


def test_a_shuffled_data_set_meets_the_same_rows(trainer):
    metrics = [
        trainer(held_out=rows, **SETTINGS).evaluate()
        for rows in (HELD_OUT, HELD_OUT[::-1])
    ]
    for name in (
        "loss",
        "uld/gpt2",
        "graph/gpt2",
        "coverage/gpt2",
        "uld/other",
        "weight/other",
    ):
        assert metrics[0][f"eval_{name}"] == pytest.approx(
            metrics[1][f"eval_{name}"], rel=1e-5
        ), name


@pytest.mark.parametrize("graph", ["row_means", "spectral"])
def test_eight_accumulation_steps_equal_one_large_batch(trainer, graph):
    """Also in the last step of an epoch, which has fewer examples."""
    found = []
    for size, steps in ((8, 1), (1, 8), (2, 4)):
        made = trainer(
            EXAMPLES[:20],
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_steps=4,
            optim="sgd",
            learning_rate=0.05,
            graph=graph,
            graph_weight=0.01,
            standardize="center",
            weighting="ce",
            max_grad_norm=0.0,
        )
        before = weights_of(made)
        made.train()
        assert float((weights_of(made) - before).abs().max()) > 1e-3
        found.append(
            (
                weights_of(made),
                [row["loss"] for row in made.state.log_history if "loss" in row],
            )
        )
    for weights, losses in found[1:]:
        assert torch.allclose(weights, found[0][0], rtol=0, atol=1e-5)
        assert losses == pytest.approx(found[0][1], rel=1e-4)


def test_every_term_is_logged(trainer):
    settings = {
        "eval_strategy": "steps",
        "eval_steps": 3,
        "fusion_schedule": "linear",
        "final_fusion_weight": 0.2,
    }
    made = trainer(held_out=HELD_OUT, log_term_gradients=True, **settings)
    made.train()
    *steps, evaluated, _ = made.state.log_history
    terms = {
        f"{term}/{name}"
        for term in ("uld", "graph", "coverage", "weight")
        for name in ("gpt2", "other")
    }
    gradients = {
        f"gradient/{term}"
        for term in terms | {"sft"}
        if "coverage" not in term and "weight" not in term
    }
    for row in steps:
        assert gradients <= set(row)
        assert all(row[name] > 0 for name in gradients)
        assert {
            "loss",
            "sft",
            "uld",
            "graph",
            "grad_norm",
            "fusion_weight",
        } | terms <= set(row)
        assert all(math.isfinite(value) for value in row.values())
    assert {f"eval_{term}" for term in terms | {"sft", "loss"}} <= set(evaluated)
    # Of its own tokenizer every position of a teacher is aligned; of the other
    # tokenizer some are.
    assert evaluated["eval_coverage/other"] == 1.0
    assert 0.2 < evaluated["eval_coverage/gpt2"] < 1.0
    assert [row["fusion_weight"] for row in steps] == pytest.approx([0.5, 0.35, 0.2])


def test_the_weight_of_the_teachers_reaches_both_of_its_ends(trainer):
    made = trainer(
        fusion_schedule="linear",
        fusion_weight=0.5,
        final_fusion_weight=0.0,
        learning_rate=0.0,
        graph=None,
    )
    made.train()
    first, _, last, _ = made.state.log_history
    assert last["loss"] == pytest.approx(last["sft"], rel=1e-5)
    half = (first["sft"] + first["uld"]) / 2
    assert first["loss"] == pytest.approx(half, rel=1e-5)


def test_a_second_training_logs_its_own_means(trainer):
    """Though the first has ended between two lines of its log."""
    settings = {"logging_steps": 2, "learning_rate": 0.0}
    made = trainer(**settings)
    means = []
    for _ in range(2):
        made.train()
        means.append(made.state.log_history[0]["sft"])
    first, second = means
    assert second == pytest.approx(first, rel=1e-5)


def test_fused_loss_falls_on_held_out_text_by_a_quarter(trainer):
    """With 24 examples, what is learnt carries over to sums never seen.

    Student and teacher differ in tokenizer and architecture.
    """
    made = trainer(
        held_out=HELD_OUT,
        teachers=("gpt2",),
        max_steps=24,
        learning_rate=5e-3,
        standardize="center",
        graph_weight=0.2,
        per_device_train_batch_size=8,
        logging_steps=24,
    )
    before = made.evaluate()
    made.train()
    after = made.evaluate()
    assert after["eval_loss"] < 0.75 * before["eval_loss"]
    for term in ("sft", "uld/gpt2", "graph/gpt2"):
        assert after[f"eval_{term}"] < before[f"eval_{term}"], term


def test_weight_zero_is_fine_tuning_and_weight_one_has_no_labels(trainer):
    plain, fused = (
        trainer(held_out=HELD_OUT, fusion_weight=w).evaluate() for w in (0.0, 1.0)
    )
    assert plain["eval_loss"] == pytest.approx(plain["eval_sft"])
    assert fused["eval_loss"] == pytest.approx(
        fused["eval_uld"] + fused["eval_graph"], rel=1e-5
    )


def test_a_run_may_have_no_graph_loss(trainer):
    made = trainer(held_out=HELD_OUT, graph=None, max_steps=1)
    made.train()
    metrics = made.evaluate()
    assert not [
        name
        for row in (*made.state.log_history, metrics)
        for name in row
        if "graph" in name
    ]
    assert metrics["eval_loss"] == pytest.approx(
        (metrics["eval_sft"] + metrics["eval_uld"]) / 2, rel=1e-5
    )


def test_examples_without_teachers_are_fine_tuned_on(trainer):
    unknown = tiny.sums(60)[24:36]
    made = trainer(
        [*EXAMPLES[:4], *unknown], per_device_train_batch_size=2, least_coverage=0.0
    )
    made.train()
    assert made.state.global_step == 3
