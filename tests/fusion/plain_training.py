"""Training without a Trainer: one process, float64, one example after the other.

It shares with the trainer the tokens, the stores' rows and the aligned positions.
"""

from __future__ import annotations

import copy
import os
import tempfile

import numpy as np
import pytest
import torch
from torch.distributed.fsdp import fully_shard

from fusion.teachers.store import TeacherStore
from fusion.text.align import align
from fusion.text.conversations import encode
from fusion.training.batches import Collator, EncodedExamples, nats_per_byte
from fusion.training.config import FusionConfig
from fusion.training.students import Reader, head_of
from fusion.training.trainer import FusionTrainer
from tests.fusion import runs, tiny

K = 6
RATE = 0.05
# Steps of eight leave five of an epoch for its second one.
EXAMPLES = tiny.sums(13)
HELD_OUT = tiny.sums(20)[-7:]


def steps_of(config, ranks):
    """The examples of the first steps, in the order that the seed decides."""
    size = config.per_device_train_batch_size * config.gradient_accumulation_steps
    size *= ranks
    found, epoch = [], 0
    while len(found) < config.max_steps:
        generator = torch.Generator().manual_seed(config.seed + epoch)
        order = torch.randperm(len(EXAMPLES), generator=generator).tolist()
        for start in range(0, len(order), size):
            found.append([EXAMPLES[i] for i in order[start : start + size]])
        epoch += 1
    return found[: config.max_steps]


def teachers_weights(rows, config):
    """The weights of the teachers that have seen an example."""
    if config.weighting == "static":
        scores = {name: config.static_weights[name] for name in rows}
    elif config.weighting == "ce":
        scores = {
            name: np.exp(-nats_per_byte(row) / config.ce_temperature)
            for name, row in rows.items()
        }
    else:
        scores = dict.fromkeys(rows, 1.0)
    total = sum(scores.values())
    return {name: score / total for name, score in scores.items()}


def centred(values, mean):
    return values - mean[:, None]


def divergence(p, q):
    return (p * (p / q).log()).sum()


def token_loss(kind, logits, rows, ours, theirs, beta=0.5):
    """A token-level loss at each of the aligned positions."""
    raw = torch.tensor(rows.values[:, :K].astype(float) + rows.shift[:, None])
    if kind == "uld":
        mean = torch.tensor(rows.mean.astype(float) + rows.shift)
        there = centred(raw, mean)
        here = centred(logits.topk(K, dim=1).values, logits.mean(dim=1))
        return (here[ours] - there[theirs]).abs().sum(dim=1)
    found = []
    logprobs = logits.log_softmax(dim=1)
    lse = torch.tensor(rows.logsumexp.astype(float) + rows.shift)
    for i, j in zip(ours, theirs, strict=True):
        kept = (raw[j] - lse[j]).exp()
        p = torch.cat([kept, 1 - kept.sum()[None]])
        tokens = torch.from_numpy(rows.ids[j, :K].astype(np.int64))
        kept = logprobs[i, tokens].exp()
        q = torch.cat([kept, 1 - kept.sum()[None]])
        if kind == "kl":
            found.append(divergence(p, q))
        else:
            m = beta * p + (1 - beta) * q
            found.append(beta * divergence(p, m) + (1 - beta) * divergence(q, m))
    return torch.stack(found) if found else torch.zeros(0)


def pair_weights(pairs, rows, config):
    """The weights of each teacher's pairs, among the teachers of a position."""
    found = {name: np.ones(len(ours)) for name, (ours, _) in pairs.items()}
    if config.weighting != "confidence":
        return found
    sure = {}  # by position of the student: by teacher, how sure it is
    for name, (ours, theirs) in pairs.items():
        row = rows[name]
        for i, j in zip(ours, theirs, strict=True):
            top = float(row.values[j, 0]) - float(row.logsumexp[j])
            sure.setdefault(i, {})[name] = np.exp(top)
    for name, (ours, _) in pairs.items():
        for place, i in enumerate(ours):
            there = sure[i]
            found[name][place] = len(there) * there[name] / sum(there.values())
    return found


def step_loss(model, tokenizer, stores, examples, config):
    """The formula of the loss, over the examples of one step."""
    sft, tokens = 0.0, 0
    sums = {"alignment": 0.0, "graph": 0.0}
    counts = {"alignment": 0.0, "graph": 0.0}
    for example in examples:
        code = encode(example, tokenizer)
        ids = torch.from_numpy(code.input_ids)
        logits = model(ids[None]).logits[0, code.positions].double()
        labels = ids[torch.from_numpy(code.completion_mask)]
        nll = -logits.log_softmax(dim=1)[torch.arange(len(labels)), labels]
        sft, tokens = sft + nll.sum(), tokens + len(labels)
        rows = {n: s[example.key] for n, s in stores.items() if example.key in s}
        pairs = {
            name: align(
                code.ends, row.ends, student_start=code.start, teacher_start=row.start
            )
            for name, row in rows.items()
        }
        weights = pair_weights(pairs, rows, config)
        for name, c in teachers_weights(rows, config).items():
            row = rows[name]
            values = token_loss(config.alignment, logits, row, *pairs[name])
            of_pairs = torch.from_numpy(weights[name])
            sums["alignment"] = sums["alignment"] + c * (of_pairs * values).sum()
            counts["alignment"] += c * float(of_pairs.sum())
            H = centred(logits.topk(K, dim=1).values, logits.mean(dim=1))
            G = torch.tensor(
                row.values[:, :K].astype(float) - row.mean.astype(float)[:, None]
            )
            f, g = ((M.T @ M.sum(dim=1) / len(M) / K).sort().values for M in (H, G))
            sums["graph"] = sums["graph"] + c * (f - g).abs().sum()
            counts["graph"] += c
    parts = {n: sums[n] / counts[n] if counts[n] else 0.0 for n in sums}
    w = config.fusion_weight
    added = (
        config.uld_weight * parts["alignment"] + config.graph_weight * parts["graph"]
    )
    return (1 - w) * sft / tokens + w * added


def trained_plainly(model, tokenizer, stores, config, ranks):
    """Steps of gradient descent."""
    model = copy.deepcopy(model).double()
    weights = [p for p in model.parameters() if p.requires_grad]
    for examples in steps_of(config, ranks):
        loss = step_loss(model, tokenizer, stores, examples, config)
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= config.learning_rate * gradient
    return model


def flat(model):
    learning = [p for p in model.parameters() if p.requires_grad]
    return torch.cat([p.detach().double().flatten() for p in learning])


def disagreement(stores: dict[str, str], settings: dict) -> float:
    """Train both ways; return the distance of the updates over the plain one's length.

    With several ranks, also require that all of them end with the same weights.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _disagreement(stores, {"output_dir": folder, **settings})


def _disagreement(stores: dict[str, str], settings: dict) -> float:
    """Train both ways, with a folder for what is written."""
    before = settings.pop("evaluate_before")
    ranks = settings.pop("ranks")
    settings.setdefault("use_cpu", True)
    settings.setdefault("graph", "row_means")
    model, tokenizer = tiny.llama()
    config = FusionConfig(
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
        stores=stores,
        k=K,
        standardize="center",
        optim="sgd",
        lr_scheduler_type="constant",
        learning_rate=RATE,
        max_grad_norm=0.0,
        max_steps=3,
        per_device_eval_batch_size=2,
        fusion_weight=0.4,
        uld_weight=0.7,
        graph_weight=0.05,
        ddp_backend="gloo" if ranks > 1 else None,
        **settings,
    )
    trainer = FusionTrainer(
        model, config, EXAMPLES, HELD_OUT, processing_class=tokenizer
    )
    start = flat(trainer.model).cpu()
    opened = {name: TeacherStore(path) for name, path in stores.items()}
    plain = trained_plainly(trainer.model.cpu(), tokenizer, opened, config, ranks)
    trainer.model.to(config.device)
    if before:
        with torch.no_grad():
            held_out = step_loss(trainer.model, tokenizer, opened, HELD_OUT, config)
        found = trainer.evaluate()["eval_loss"]
        assert found == pytest.approx(
            float(held_out), rel=2e-2 if config.bf16 else 1e-5
        )
    trainer.train()
    end = flat(trainer.accelerator.unwrap_model(trainer.model)).cpu()
    if ranks > 1:
        first = end.clone()
        torch.distributed.broadcast(first, 0)
        assert torch.equal(first, end)
    wanted = flat(plain) - start
    return float((end - start - wanted).norm() / wanted.norm())


def sharded_gradient(place: int, world: int, chunk: int | None) -> float:
    """Distance of a gradient of shards from that of the whole, over its length.

    The weights lie in shards on all ranks; each has a part of the examples.
    """
    model, tokenizer = tiny.llama()
    data = EncodedExamples(EXAMPLES[:4], tokenizer, None)
    collator = Collator({}, padding=0)
    everything = [data[i] for i in range(4)]

    def total(model, features):
        reader = Reader(K, len(tokenizer), True, chunk, skips_prompts=True)
        head, _ = reader(model, head_of(model), collator(features), None)
        return head.nll.sum() + head.topk.values.sum()

    whole = copy.deepcopy(model)
    total(whole, everything).backward()
    wanted = torch.cat([p.grad.flatten() for p in whole.parameters()])
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    # Ranks average their gradients.
    (world * total(model, everything[place::world])).backward()
    found = torch.cat([p.grad.full_tensor().flatten() for p in model.parameters()])
    return float((found - wanted).norm() / wanted.norm())


def rank(place: int, world: int, folder: str, cases: list[tuple[dict, dict]]) -> None:
    """Train as one rank of several; rank 0 keeps the disagreements of the cases.

    Behind them are those of gradients whose weights lie in shards.
    """
    with runs.joined(place, world, folder):
        found = [disagreement(stores, settings) for stores, settings in cases]
        sharded = [sharded_gradient(place, world, chunk) for chunk in (None, 5)]
    if place == 0:
        torch.save((found, sharded), os.path.join(folder, "found.pt"))
