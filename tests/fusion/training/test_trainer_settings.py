"""Whatever the settings, training is that of a plain loop in float64."""

import random

import pytest
import torch

from fusion.teachers.capture import capture
from tests.fusion import plain_training, tiny

# Distance of the updates of three steps, over their length. In bfloat16 logits are
# rounded to 2 or 3 digits. The gradient of ULD is a sign, which turns over where the
# two sides nearly agree: a plain loop in bfloat16 is 0.40 away from that in float64.
TOLERANCE = {
    ("float32", "uld"): 1e-4,
    ("float32", "kl"): 1e-4,
    ("float32", "jsd"): 1e-4,
    ("bfloat16", "uld"): 0.5,
    ("bfloat16", "kl"): 0.15,
    ("bfloat16", "jsd"): 0.15,
}
LORA = {"r": 2, "target_modules": ["q_proj", "down_proj"], "lora_alpha": 8}
CHOICES = {
    "ranks": [1, 2],
    "sizes": [(8, 1), (4, 2), (2, 4)],  # examples and micro-batches of all ranks
    "lora": [None, LORA],
    "dtype": ["float32", "float32", "bfloat16"],
    "evaluation": ["none", "before", "during"],
    "weighting": ["uniform", "static", "ce", "confidence"],
    "alignment": ["uld", "uld", "kl", "jsd"],
    "head_chunk": [None, 5],
    "gradient_checkpointing": [False, True],
}


def drawn(count, seed=0):
    """Settings drawn at random, no two alike."""
    rng = random.Random(seed)
    found = []
    while len(found) < count:
        one = {name: rng.choice(values) for name, values in CHOICES.items()}
        if one not in found:
            found.append(one)
    return found


def case(drawn, stores):
    """Stores and settings of a training."""
    settings = dict(drawn)
    size, accumulation = settings.pop("sizes")
    evaluation = settings.pop("evaluation")
    # KL and JSD compare tokens.
    names = ("gpt2", "other") if settings["alignment"] == "uld" else ("other", "third")
    settings |= {
        "per_device_train_batch_size": size // settings["ranks"],
        "gradient_accumulation_steps": accumulation,
        "bf16": settings.pop("dtype") == "bfloat16",
        "evaluate_before": evaluation == "before",
        "eval_strategy": "steps" if evaluation == "during" else "no",
        "eval_steps": 1,
        "static_weights": dict(zip(names, (1.0, 3.0), strict=True)),
        "ce_temperature": 0.5,
    }
    return {name: stores[name] for name in names}, settings


@pytest.fixture(scope="module")
def stores(tmp_path_factory, gpt2):
    """Three teachers: of the examples, one knows every second."""
    folder = tmp_path_factory.mktemp("stores")
    examples = [*plain_training.EXAMPLES, *plain_training.HELD_OUT]
    capture(*gpt2, examples, folder / "gpt2", k=8, progress=False)
    capture(*tiny.llama(seed=5), examples[::2], folder / "other", progress=False)
    capture(*tiny.llama(seed=6), examples, folder / "third", progress=False)
    return {name: str(folder / name) for name in ("gpt2", "other", "third")}


def check(settings, errors):
    for one, error in zip(settings, errors, strict=True):
        assert error < TOLERANCE[one["dtype"], one["alignment"]], (error, one)


ALL = drawn(20)
# transformers and peft ask each other by names that transformers has given up.
old_names = pytest.mark.filterwarnings(
    "ignore:`.*gradient_checkpointing`:FutureWarning"
)


@old_names
@pytest.mark.parametrize(
    "settings",
    [one for one in ALL if one["ranks"] == 1],
    ids=lambda one: str(ALL.index(one)),
)
def test_one_rank_trains_as_a_plain_loop(settings, stores):
    found = plain_training.disagreement(*case(settings, stores))
    check([settings], [found])


@old_names
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("settings", [one for one in ALL if one["ranks"] == 1])
def test_a_gpu_trains_as_a_plain_loop_on_the_cpu(settings, stores):
    """To the tolerances of CPUs, as PyTorch multiplies float32 in full there, too."""
    told, others = case(settings, stores)
    others |= {"use_cpu": False, "evaluate_before": False}
    check([settings], [plain_training.disagreement(told, others)])


def test_two_ranks_train_as_a_plain_loop(forkserver, stores, tmp_path):
    """Whole copies; and shards of weights, whose gradients are those of the whole."""
    settings = [one for one in ALL if one["ranks"] == 2]
    cases = [case(one, stores) for one in settings]
    processes = [
        forkserver.Process(
            target=plain_training.rank,
            args=(place, 2, str(tmp_path), cases),
            daemon=True,
        )
        for place in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    found, sharded = torch.load(tmp_path / "found.pt")
    check(settings, found)
    assert len(sharded) == 2
    assert max(sharded) < 1e-5
