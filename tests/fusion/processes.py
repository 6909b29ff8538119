"""Two processes that share sequences, for what only a process group shows."""

import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

import fusion
from tests.fusion import reference

RANKS = 2
CASES = [("row_means", "rank"), ("norm", "rank"), ("spectral", "rank"), ("gw", "rank")]
CASES += [(kind, "vocabulary") for kind in ("row_means", "norm", "spectral")]


def run(context):
    """Run every case in two processes joined by gloo; return what rank 0 assembles."""
    with tempfile.TemporaryDirectory() as folder:
        members = [
            context.Process(target=_member, args=(rank, folder), daemon=True)
            for rank in range(RANKS)
        ]
        for member in members:
            member.start()
        for member in members:
            member.join()
        assert [member.exitcode for member in members] == [0] * RANKS
        return torch.load(Path(folder) / "result", weights_only=False)


def _member(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS
    )
    result = split_graphs(rank) | split_objective(rank)
    if rank == 0:
        torch.save(result, Path(folder) / "result")
    dist.barrier()
    dist.destroy_process_group()


def _gathered(value):
    everyone = [None] * RANKS
    dist.all_gather_object(everyone, value)
    return everyone


def _part(rank, tensor):
    """Return the positions that a rank holds: the first half or the second."""
    half = tensor.shape[1] // RANKS
    return tensor[:, rank * half : (rank + 1) * half]


def _sides():
    rng = np.random.default_rng(0)
    mask = torch.tensor(rng.random((2, 6)) < 0.7)
    mask[:, 0] = True
    return reference.draw(rng, 2, 6, 9), mask, reference.draw(rng, 2, 8, 7)


def split_graphs(rank):
    """For each kind: the whole loss and its gradient, and those of both ranks.

    The latter are gradients of a shared parameter.
    """
    logits, mask, other = _sides()
    results = {}
    for kind, channels in CASES:
        parameter = torch.ones(9, dtype=torch.float64, requires_grad=True)
        whole = fusion.graph_loss(
            fusion.top_k(logits * parameter, 3, mask),
            fusion.top_k(other, 3),
            kind,
            channels,
        )
        (gradient,) = torch.autograd.grad(whole, parameter)
        ours = fusion.top_k(_part(rank, logits * parameter), 3, _part(rank, mask))
        loss = fusion.graph_loss(
            ours,
            fusion.top_k(_part(rank, other), 3),
            kind,
            channels,
            group=dist.group.WORLD,
        )
        (own,) = torch.autograd.grad(loss, parameter)
        results[kind, channels] = (
            float(whole),
            gradient.numpy(),
            _gathered((float(loss), own.numpy())),
        )
    return results


def split_objective(rank):
    """The whole objective and its gradient, and those of both ranks.

    For each token-level loss.
    """
    logits, mask, other = _sides()
    labels = torch.where(mask, torch.arange(6)[None, :], -100)
    results = {}
    for alignment in ("uld", "kl", "jsd"):
        loss = fusion.FusionLoss(0.4, alignment, "row_means")
        parameter = torch.ones(9, dtype=torch.float64, requires_grad=True)
        teacher = fusion.top_k(torch.cat([other[:, :6], other[:, :6, :2]], dim=2), 3)

        def step(logits, labels, teacher, group, loss=loss):
            out = fusion.read(logits, labels, 3, ids=teacher.ids)
            index = torch.arange(labels.shape[1]).expand_as(labels).contiguous()
            weights = torch.tensor([0.3, 2.0], dtype=torch.float64)
            term = fusion.TeacherTerm(
                teacher, index, index, labels != -100, out.logprobs_at, weights
            )
            return loss(out.topk, out.nll, {"a": term}, group=group).total

        whole = step(logits * parameter, labels, teacher, None)
        (gradient,) = torch.autograd.grad(whole, parameter)
        index = _part(rank, torch.arange(6).expand(2, -1)).contiguous()
        mine = teacher.select(index, torch.ones_like(index, dtype=torch.bool))
        part = step(
            _part(rank, logits * parameter), _part(rank, labels), mine, dist.group.WORLD
        )
        (own,) = torch.autograd.grad(part, parameter)
        results[alignment] = (
            float(whole),
            gradient.numpy(),
            _gathered((float(part), own.numpy())),
        )
    return results
