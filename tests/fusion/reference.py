"""The losses written out from their formulas, in float64 and loops.

They are slow, and apart from everything that they check.
"""

import math

import numpy as np
import torch


def draw(rng, B, T, V, scale=2.0):
    return torch.tensor(rng.standard_normal((B, T, V)) * scale)


def number(value):
    """A tensor's value outside its gradient graph."""
    return float(value.detach() if isinstance(value, torch.Tensor) else value)


def row(logits, k, kind="none", temperature=1.0):
    """The k largest entries of one row, standardised by the whole of it."""
    x = [float(v) for v in logits]
    finite = [v for v in x if v > -math.inf]
    mean = sum(finite) / len(finite)
    std = math.sqrt(sum((v - mean) ** 2 for v in finite) / len(finite))
    scaled = [v / temperature for v in x]
    lse = math.log(sum(math.exp(v - max(scaled)) for v in scaled)) + max(scaled)
    quantity = {
        "none": lambda v: v / temperature,
        "center": lambda v: (v - mean) / temperature,
        "logprob": lambda v: v / temperature - lse,
        "softmax": lambda v: math.exp(v / temperature - lse),
        "zscore": lambda v: (v - mean) / std,
    }[kind]
    order = sorted(range(len(x)), key=lambda i: -x[i])[:k]
    return [quantity(x[i]) for i in order], order


def rows(logits, mask, k, kind="none", temperature=1.0):
    """For each sequence, the standardised rows (T_valid, k) and their tokens."""
    values, tokens = [], []
    for b in range(len(logits)):
        found = [
            row(logits[b][t], k, kind, temperature)
            for t in range(len(logits[b]))
            if mask[b][t]
        ]
        values.append(np.array([v for v, _ in found]).reshape(len(found), k))
        tokens.append(np.array([i for _, i in found], dtype=int).reshape(len(found), k))
    return values, tokens


def uld(student, teacher):
    """Mean over aligned rows (n, k) of both."""
    return sum(
        sum(abs(s - t) for s, t in zip(*pair, strict=True))
        for pair in zip(student, teacher, strict=True)
    ) / len(student)


def graph(H):
    """C = HᵀH / T by outer products."""
    C = np.zeros((H.shape[1], H.shape[1]))
    for h in H:
        C += np.outer(h, h) / len(H)
    return C


def channels(H, tokens, V):
    """Rows over the whole vocabulary, zero but for the tokens kept."""
    full = np.zeros((len(H), V))
    for t in range(len(H)):
        for r in range(H.shape[1]):
            full[t, tokens[t, r]] = H[t, r]
    return full


def line(x, y, p):
    """W_p^p between uniform lists of any lengths: both repeated to a common length."""
    n = math.lcm(len(x), len(y))
    x, y = (np.sort(np.repeat(v, n // len(v))) for v in (x, y))
    return sum(abs(s - t) ** p for s, t in zip(x, y, strict=True)) / n


def parts(C):
    n = len(C)
    f = np.array([sum(C[i]) / n for i in range(n)])
    m = sum(f) / n
    R = np.array([[C[i, k] - f[i] - f[k] + m for k in range(n)] for i in range(n)])
    return f, m, f - m, R


def compare(C, D, kind):
    """One pair of graphs with uniform weights."""
    (f, m, alpha, R), (g, mean, beta, S) = parts(C), parts(D)
    if kind == "row_means":
        return line(f, g, 1)
    additive = (m - mean) ** 2 + 2 * line(alpha, beta, 2)
    if kind == "norm":
        return additive + (math.sqrt((R**2).mean()) - math.sqrt((S**2).mean())) ** 2
    eigenvalues = []
    n = max(len(C), len(D))
    for matrix in (R, S):
        found = np.linalg.eigvalsh(matrix / len(matrix))
        eigenvalues.append(np.sort(np.concatenate([found, np.zeros(n - len(found))])))
    split = [(np.clip(v, 0, None), np.clip(v, None, 0)) for v in eigenvalues]
    return additive + sum(((a - b) ** 2).sum() for a, b in zip(*split, strict=True))


def graph_loss(student, teacher, kind, over="rank"):
    """Mean over the sequences that both sides have.

    A side is (values, tokens, V) as of ``rows``.
    """
    found = []
    for H, i, G, j in zip(*student[:2], *teacher[:2], strict=True):
        if len(H) and len(G):
            if over == "vocabulary":
                found.append(
                    compare(
                        graph(channels(H, i, student[2])),
                        graph(channels(G, j, teacher[2])),
                        kind,
                    )
                )
            else:
                found.append(
                    compare(graph(H), graph(G), kind)
                    * (H.shape[1] if kind == "row_means" else 1)
                )
    return sum(found) / len(found)


def partition(logits, tokens, temperature=1.0):
    """Probabilities of some tokens and of all others."""
    x = np.asarray(logits) / temperature
    p = np.exp(x - x.max())
    p /= p.sum()
    rest = [i for i in range(len(p)) if i not in set(tokens)]
    return np.array([*(p[i] for i in tokens), sum(p[i] for i in rest)])


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def jsd(p, q, beta):
    m = beta * p + (1 - beta) * q
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def objective(logits, labels, teachers, w, a, g, totals=None):
    """The total of FusionLoss with ULD and row means, as its module states it.

    One example, one pair after the other.

    A teacher is a mapping: share λ, weights c of the examples, its logits, mask and k,
    and pairs of positions (b, i, j). ``totals`` are the denominators: of SFT, and of
    each teacher's pairs and graphs.
    """
    nll = []
    for b, t in zip(*np.nonzero(np.asarray(labels) != -100), strict=True):
        x = np.asarray(logits[b][t])
        nll.append(
            math.log(sum(math.exp(v - max(x)) for v in x))
            + max(x)
            - x[int(labels[b][t])]
        )
    total = (1 - w) * sum(nll) / (len(nll) if totals is None else totals[0])
    for s, teacher in enumerate(teachers):
        k, c = teacher["k"], [float(v) for v in teacher["weights"]]
        sums, counts = [0.0, 0.0], [0.0, 0.0]
        for b, i, j in teacher["pairs"]:
            if labels[b][i] != -100 and teacher["mask"][b][j]:
                sums[0] += c[b] * uld(
                    [row(logits[b][i], k)[0]], [row(teacher["logits"][b][j], k)[0]]
                )
                counts[0] += c[b]
        ours = rows(logits, np.asarray(labels) != -100, k)[0]
        theirs = rows(teacher["logits"], teacher["mask"], k)[0]
        for b, (H, G) in enumerate(zip(ours, theirs, strict=True)):
            if len(H) and len(G):
                sums[1] += c[b] * k * compare(graph(H), graph(G), "row_means")
                counts[1] += c[b]
        by = counts if totals is None else totals[1 + s]
        terms = [u / n if n else 0.0 for u, n in zip(sums, by, strict=True)]
        total += w * teacher["share"] * (a * terms[0] + g * terms[1])
    return total


def slope(function, x, step=1e-5):
    """Gradient of a function of a float64 tensor by central differences."""
    gradient = torch.zeros_like(x)
    for i in range(x.numel()):
        ends = []
        for sign in (1, -1):
            moved = x.detach().clone()
            moved.view(-1)[i] += sign * step
            ends.append(function(moved))
        gradient.view(-1)[i] = (ends[0] - ends[1]) / (2 * step)
    return gradient
