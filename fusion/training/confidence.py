"""How sure each teacher is at each position, as weights among the teachers there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def confidence_weights(teachers: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of all pairs, by how sure each pair's teacher is there.

    At a position of the student that n teachers are paired with, teacher s has the
    weight n · p_s / Σ_r p_r, where p_s is the probability of its likeliest token. So
    the teachers of a position have the mean weight 1, as without weights, and all have
    1 where they are equally sure.

    Parameters
    ----------
    teachers : mapping of str to `fusion.training.batches.TeacherBatch`
        By name, what the teachers say of one batch, with the log-sum-exp of their rows.

    Returns
    -------
    dict of tensors of shape (B, P)
        By name; 0 where there is no pair.
    """
    sure = {}
    rows = 1
    for name, teacher in teachers.items():
        logprob = teacher["values"][..., 0] - teacher["logsumexp"]  # (B, T')
        sure[name] = logprob.exp().gather(1, teacher["teacher_index"])  # (B, P)
        sure[name] = sure[name] * teacher["pairs"]
        rows = max(rows, int(teacher["student_index"].max()) + 1)

    # Sums over the teachers at each position of the student.
    examples = len(next(iter(sure.values()))) if sure else 0
    total = torch.zeros(examples, rows)
    count = torch.zeros(examples, rows)
    for name, teacher in teachers.items():
        at = teacher["student_index"]
        total = total.scatter_add(1, at, sure[name])
        count = count.scatter_add(1, at, teacher["pairs"].float())

    found = {}
    for name, teacher in teachers.items():
        at = teacher["student_index"]
        # Every teacher's largest probability is above 0: so are sums where pairs are.
        least = torch.finfo(total.dtype).tiny
        mean = total.gather(1, at).clamp(min=least) / count.gather(1, at).clamp(min=1)
        found[name] = sure[name] / mean
    return found
