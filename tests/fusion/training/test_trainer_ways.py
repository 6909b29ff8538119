"""Training: what learns, in which order and precision, and what is refused."""

import copy

import pytest
import torch

import fusion
from fusion.teachers.store import TeacherStore
from fusion.text.conversations import encode
from fusion.training.config import FusionConfig
from fusion.training.sampling import EpochSampler, by_length
from fusion.training.trainer import FusionTrainer
from tests.fusion import tiny
from tests.fusion.largest import Largest
from tests.fusion.taught import EXAMPLES, HELD_OUT, SETTINGS, K, weights_of

# peft asks transformers by a name that it has given up.
old_name = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)


@old_name
@pytest.mark.parametrize("how", ["lora", "layers"])
def test_only_what_was_asked_for_is_trained(trainer, how):
    settings = (
        {"lora": {"r": 2, "target_modules": ["q_proj", "v_proj"]}}
        if how == "lora"
        else {"trained_layers": 1}
    )
    made = trainer(learning_rate=1e-2, **settings)
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    made.train()
    changed = {
        name
        for name, p in made.model.named_parameters()
        if not torch.equal(p, before[name])
    }
    asked = "lora_" if how == "lora" else ("layers.1.", "model.norm.")
    assert changed == {
        name
        for name in before
        if (asked in name if how == "lora" else any(a in name for a in asked))
    }
    assert changed


@old_name
def test_a_student_with_adapters_is_saved_merged(trainer):
    from fusion.models import load_model

    made = trainer(lora={"r": 2, "target_modules": ["q_proj"]}, learning_rate=1e-2)
    made.train()
    ids = torch.arange(5)[None]
    expected = made.model(ids).logits
    made.save_student()
    assert torch.allclose(
        load_model(made.args.output_dir)(ids).logits, expected, atol=1e-5
    )


@pytest.mark.parametrize("size", [1, 5, 24])
def test_weights_and_coverage_do_not_depend_on_batches(trainer, size):
    """One teacher has seen every third example, and weighs a half there."""
    made = trainer(held_out=HELD_OUT, per_device_eval_batch_size=size, **SETTINGS)
    found = made.evaluate()
    stores = {name: TeacherStore(path) for name, path in made.args.stores.items()}
    share = sum(e.key in stores["other"] for e in HELD_OUT) / len(HELD_OUT)
    assert 0 < share < 1
    assert found["eval_weight/other"] == pytest.approx(share / 2)
    assert found["eval_weight/gpt2"] == pytest.approx(1 - share / 2)


def test_incomplete_batches_that_are_left_out_are_of_training_alone(trainer):
    found = [
        trainer(
            held_out=HELD_OUT[:5],
            per_device_eval_batch_size=4,
            dataloader_drop_last=drop,
        ).evaluate()
        for drop in (False, True)
    ]
    for name in ("loss", "sft", "uld/gpt2"):
        first, second = (metrics[f"eval_{name}"] for metrics in found)
        assert second == pytest.approx(first, rel=1e-5)


def test_examples_may_come_by_length(trainer):
    made = trainer(
        train_sampling_strategy="group_by_length",
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
    )
    lengths = [len(encode(e, made.processing_class).input_ids) for e in EXAMPLES]
    order = by_length(lengths, 4)
    wanted = EpochSampler(len(EXAMPLES), order, seed=made.args.seed)
    assert list(made._get_train_sampler()) == list(wanted)


def test_a_tokenizer_without_a_token_for_padding_will_do(trainer, stores):
    tokenizer = copy.deepcopy(tiny.digits_tokenizer())
    tokenizer.pad_token = None
    wanted = trainer(held_out=HELD_OUT, **SETTINGS)
    made = FusionTrainer(
        copy.deepcopy(wanted.model),
        wanted.args,
        EXAMPLES,
        HELD_OUT,
        processing_class=tokenizer,
    )
    made.train()
    wanted.train()
    assert torch.equal(weights_of(made), weights_of(wanted))


def test_a_head_in_chunks_never_has_more_logits_in_memory(trainer):
    """Adding up to the same step."""
    found = []
    for chunk in (None, 7):
        made = trainer(
            head_chunk=chunk,
            held_out=HELD_OUT,
            max_steps=1,
            optim="sgd",
            learning_rate=0.05,
            per_device_train_batch_size=6,
            **SETTINGS,
        )
        # But for the head itself, d rows of the transposed.
        width = made.model.config.hidden_size
        with Largest(len(made.processing_class)) as seen:
            made.train()
            made.evaluate()
        found.append((weights_of(made), seen.rows))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    assert found[0][1] > 100
    assert found[1][1] <= max(7, width)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fsdp": "full_shard"}, "fsdp must be left out on CPUs"),
        ({"accelerator_config": {"dispatch_batches": True}}, "dispatch_batches must"),
        ({"train_sampling_strategy": "batch_rebalance"}, "must be one of random"),
        ({"metric_for_best_model": "eval_sft2"}, "must be one of loss, sft, uld"),
        ({"max_steps": 0}, "must be above 0, but they are 0 and 3"),
        ({"max_steps": -1, "num_train_epochs": 0.0}, "but they are -1 and 0.0"),
        (
            {"weighting": "static", "static_weights": {"gpt2": 0, "other": 0}},
            "a weight above 0",
        ),
        ({"packing": True}, "a graph is of the positions of one example"),
        ({"alignment": "kl"}, "store of gpt2 was made with another"),
        ({"alignment": "kl", "temperature": 2.0}, "temperatures must be 1"),
    ],
)
def test_ways_of_training_that_cannot_be_are_refused(trainer, settings, message):
    with pytest.raises(ValueError, match=message):
        trainer(**{"standardize": "center"} | settings)


def test_stores_that_do_not_fit_are_refused(trainer):
    with pytest.raises(ValueError, match="holds none of 3"):
        trainer(tiny.sums(80)[-3:])
    with pytest.raises(ValueError, match="k = 9"):
        trainer(k=9)
    with pytest.raises(TypeError, match="must be a FusionConfig"):
        FusionTrainer()
    with pytest.raises(ValueError, match="student must name a model"):
        FusionTrainer(args=FusionConfig(output_dir="unused", use_cpu=True))


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_run_goes_on_behind_what_it_has_learnt(trainer, accumulation):
    """Of 24 examples: with others a step, some would be learnt twice or never."""
    settings = {
        "gradient_accumulation_steps": accumulation,
        "per_device_train_batch_size": 5,
        "save_strategy": "steps",
        "save_steps": 1,
    }
    trainer(max_steps=3, **settings).train()
    with pytest.raises(ValueError, match="restore the number of processes"):
        trainer(
            max_steps=6,
            resume_from_checkpoint="auto",
            **settings | {"per_device_train_batch_size": 3},
        ).train(resume_from_checkpoint="auto")
    made = trainer(max_steps=6, **settings)
    made.train(resume_from_checkpoint="auto")
    assert made.state.global_step == 6
    again = trainer(max_steps=6, **settings)
    again.train(resume_from_checkpoint="auto")
    assert torch.equal(weights_of(again), weights_of(made))


@pytest.mark.parametrize("metric", ["loss", "eval_sft", "uld/gpt2", "coverage/other"])
def test_the_best_checkpoint_may_be_by_any_metric_of_evaluations(trainer, metric):
    made = trainer(held_out=HELD_OUT, metric_for_best_model=metric)
    assert made.args.metric_for_best_model == metric
    assert made.args.greater_is_better is metric.startswith("coverage")


def test_any_examples_can_be_evaluated_on(trainer):
    made = trainer(held_out=HELD_OUT, **SETTINGS)
    wanted = made.evaluate()["eval_loss"]
    other = trainer(**SETTINGS)
    assert other.evaluate(HELD_OUT)["eval_loss"] == wanted
    found = other.evaluate({"a": HELD_OUT, "b": HELD_OUT[:5]})
    assert found["eval_a_loss"] == wanted
    assert found["eval_b_loss"] != wanted
    with pytest.raises(TypeError, match="must be one sequence, but are a mapping"):
        trainer(held_out={"a": HELD_OUT})


def own_graph(student, term):
    """Row means, by the caller, of a student whose other logits are cut."""
    ours = student.first(K)
    values = fusion.graph_loss(ours, term.topk.first(K), reduction="none")
    seen = term.topk.mask.any(dim=1)
    return torch.where(seen, values, 0.0), seen


def test_a_graph_loss_of_ones_own_trains_as_the_same_one_of_the_library(trainer):
    settings = {"standardize": "none", "graph_weight": 0.01, "learning_rate": 1e-2}
    found = []
    for graph, student_k in ((None, None), (own_graph, 50)):
        made = trainer(own_graph=graph, student_k=student_k, **settings)
        made.train()
        found.append(weights_of(made))
    assert torch.allclose(*found, atol=1e-6)


@pytest.mark.parametrize("student_k", [K - 1, 10**6])
def test_logits_of_a_student_that_it_has_not_are_refused(trainer, student_k):
    with pytest.raises(ValueError, match="student_k must be between k = 6"):
        trainer(own_graph=own_graph, student_k=student_k)


def test_confidence_weighs_the_teachers_of_each_position(trainer, stores):
    """Twice the same teacher is as one; of two, another loss than by equal weights."""
    twice = {"a": stores["gpt2"], "b": stores["gpt2"]}
    told = {"max_steps": 1, "graph": None}
    both = trainer(stores=twice, weighting="confidence", **told)
    even = trainer(stores=twice, **told)
    apart = trainer(weighting="confidence", **told)
    uniform = trainer(**told)
    losses = []
    for made in (both, even, apart, uniform):
        made.train()
        losses.append(made.state.log_history[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[2] != pytest.approx(losses[3], rel=1e-4)
