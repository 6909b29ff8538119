"""Graph losses of the fusion study: values, gradients, and what they cannot see."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

import fusion
import gwtools as gw
from simulations.study import graphs, next_bytes
from tests.simulations.study import cases
from tests.simulations.study.cases import (
    PAIRS,
    K,
    by_example,
    check,
    pairs_of,
    profiles,
    read,
    rows,
    term_of,
)

NAMES = (
    "next_bytes",
    "hybrid",
    "byte_graph",
    "position_graph",
    "windows_1",
    "windows_4",
    "without_shift",
    "questions",
    "constant",
    "fused",
)
OF_PAIRS = tuple(
    name for name in NAMES if name not in ("without_shift", "constant", "fused")
)
OF_PROBABILITIES = tuple(
    name
    for name in NAMES
    if name not in ("windows_1", "windows_4", "without_shift", "constant")
)


@pytest.fixture
def tokenizers():
    return cases.tokenizers()


@pytest.fixture
def single_bytes():
    return cases.single_bytes()


@pytest.fixture
def case():
    return cases.case()


def test_byte_graph(case, tokenizers):
    shared = next_bytes.symbols(*tokenizers)
    logits, _, term = case

    def distance(H, G):
        return ((H.T @ H / len(H) - G.T @ G / len(G)) ** 2).sum()

    expected = by_example(distance, shared, logits, term)
    check(graphs.ByteGraph(shared), case, expected)


def test_position_graph(case, tokenizers):
    shared = next_bytes.symbols(*tokenizers)
    logits, _, term = case

    def distance(H, G):
        return ((H @ H.T - G @ G.T) ** 2).mean()

    expected = by_example(distance, shared, logits, term)
    check(graphs.PositionGraph(shared), case, expected)


def spaces(H, G):
    """Gram spaces of the columns of two factors, of equal weights."""
    return [gw.GramSpace(F, np.full(F.shape[1], 1 / F.shape[1])) for F in (H, G)]


@pytest.mark.parametrize("name", ["byte_graph", "position_graph"])
def test_graphs_of_known_nodes_bound_GW(name, case, tokenizers):
    shared = next_bytes.symbols(*tokenizers)
    logits, mask, term = case
    values, _ = graphs.losses(*tokenizers)[name](read(logits, mask), term)
    for b in range(3):
        H, G = profiles(shared, logits, term, b)
        if name == "byte_graph":
            scale = shared.count + 1
            x, y = spaces(H / len(H) ** 0.5, G / len(G) ** 0.5)
        else:
            scale = 1
            x, y = spaces(H.T, G.T)
        n = len(x.weights)
        identity = gw.DensePlan(np.eye(n) / n)
        value = float(values[b]) / scale**2
        assert gw.GWProblem(x, y).objective(identity) == pytest.approx(value)
        spectral = gw.bounds.spectral(x, y)
        assert gw.bounds.norm(x, y) <= spectral * (1 + 1e-9)
        assert 0 < spectral <= value * (1 + 1e-9)
        assert gw.solve(x, y, gw.ConditionalGradient()).certificate.lower <= value * (
            1 + 1e-9
        )


@pytest.fixture
def alike(single_bytes):
    """A student and a teacher who says nearly the same, and the losses of both."""
    V = len(single_bytes)
    logits = rows(4, 3, V, 0)
    every = torch.arange(3).expand(4, 3).tolist()
    term = term_of(read(logits + 0.3 * rows(4, 3, V, 1)), every, every)
    return logits, term, graphs.losses(single_bytes, single_bytes)


@pytest.mark.parametrize("name", ["byte_graph", "position_graph", "next_bytes"])
def test_byte_graph_does_not_see_positions(name, alike):
    logits, term, losses = alike
    moved, _ = losses[name](read(logits[:, [2, 0, 1]]), term)
    plain, _ = losses[name](read(logits), term)
    if name == "byte_graph":
        torch.testing.assert_close(plain, moved)
    else:
        assert (moved > 1.5 * plain).all()


@pytest.mark.parametrize("name", ["position_graph", "questions", "byte_graph"])
def test_bytes_exchanged_everywhere_are_not_seen(name, alike):
    logits, term, losses = alike
    V = logits.shape[2]
    exchange = torch.randperm(V, generator=torch.Generator().manual_seed(0))
    moved, _ = losses[name](read(logits[:, :, exchange]), term)
    plain, _ = losses[name](read(logits), term)
    if name == "byte_graph":
        assert (moved > 1.5 * plain).all()
    else:
        torch.testing.assert_close(plain, moved)


@pytest.mark.parametrize("width", [1, 3, 4, 9])
def test_windows(width, case):
    logits, mask, term = case
    student = read(logits, mask)
    expected = []
    for b in range(3):
        found = list(pairs_of(term, b))
        values = []
        for start in range(0, len(found), width):
            window = found[start : start + width]
            ours, theirs = (
                read(side[b : b + 1, list(at)], k=K)
                for side, at in zip(
                    (logits, rows(5, 5, term.topk.vocabulary, 1)),
                    zip(*window, strict=True),
                    strict=True,
                )
            )
            values.append(float(fusion.graph_loss(ours, theirs)))
        expected.append(np.mean(values))
    check(graphs.Windows(width), case, expected)
    assert student.k > K


def test_windows_of_one_are_ULD_of_scaled_rows():
    h, g = (read(rows(1, 1, 9, seed) + 9, k=4) for seed in (0, 1))
    at = [[0]]
    m, n = h.values.mean(), g.values.mean()
    # Rows of one mean: that mean times ULD.
    moved = replace(g, values=g.values - n + m)
    values, _ = graphs.Windows(1)(h, term_of(moved, at, at))
    assert float(values) == pytest.approx(float(m * fusion.uld_loss(h, moved)))
    # Other means: rows are scaled by their own.
    values, _ = graphs.Windows(1)(h, term_of(g, at, at))
    scaled = (h.values * m - g.values * n).abs().sum()
    assert float(values) == pytest.approx(float(scaled))


def test_without_shift(case):
    logits, mask, term = case
    values, present = graphs.WithoutShift()(read(logits, mask), term)
    assert present.tolist() == [True, True, True, True, False]
    for b in range(4):
        spectra = []
        for side in (read(logits, mask).first(K), term.topk):
            H = side.values[b][side.mask[b]]
            H = (H - H.mean(dim=1, keepdim=True)).numpy()
            spectra.append(np.linalg.eigvalsh(H.T @ H / len(H) / K))
        expected = ((spectra[0] - spectra[1]) ** 2).sum()
        assert float(values[b]) == pytest.approx(expected)


def row_share(loss, values, term):
    """Share of a gradient's energy that moves whole rows of kept logits."""
    values = values.clone().requires_grad_()
    student = read(values)
    losses, _ = loss(student, term)
    (gradient,) = torch.autograd.grad(losses.sum(), values)
    of_rows = gradient.mean(dim=2, keepdim=True).expand_as(gradient)
    return float(of_rows.square().sum() / gradient.square().sum())


def test_without_shift_moves_no_whole_rows(case):
    term = case[2]
    kept = rows(5, 7, 40, 3).topk(K).values

    def published(student, term):
        return fusion.graph_loss(student, term.topk, reduction="none"), None

    assert 0.5 < row_share(published, kept, term) < 0.999
    # All row means above the teacher's: nothing but whole rows is moved.
    assert row_share(published, 30 + kept, term) == pytest.approx(1)
    assert row_share(graphs.WithoutShift(), kept, term) < 1e-20
    shifts = rows(5, 7, 1, 4)
    plain, shifted = (
        graphs.WithoutShift()(read(x), term)[0] for x in (kept, kept + shifts)
    )
    torch.testing.assert_close(plain, shifted)


def test_questions(case, tokenizers):
    shared = next_bytes.symbols(*tokenizers)
    logits, mask, term = case
    features = [[], []]
    for b in range(3):
        for side, found in zip(
            features, profiles(shared, logits, term, b), strict=True
        ):
            side.append(found.mean(axis=0))
    X, Y = (np.array(side) - np.mean(side, axis=0) for side in features)
    cka = ((X.T @ Y) ** 2).sum()
    cka /= np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y)
    values, present = graphs.Questions(shared)(read(logits, mask), term)
    assert present.tolist() == [True, True, True, False, False]
    assert values[3:].tolist() == [0.0, 0.0]
    assert float(values.sum() / 3) == pytest.approx(1 - cka)
    K_s, K_t = (side @ side.T / np.linalg.norm(side @ side.T) for side in (X, Y))
    np.testing.assert_allclose(values[:3], 1.5 * ((K_s - K_t) ** 2).sum(axis=1))
    # The objective of the identity, with weights 1/3.
    problem = gw.GWProblem(gw.DenseSpace(K_s), gw.DenseSpace(K_t))
    objective = problem.objective(gw.DensePlan(np.eye(3) / 3))
    assert objective == pytest.approx(2 / 9 * (1 - cka))


def test_kernels_do_not_see_rotations_shifts_and_scales():
    features = rows(6, 1, 5, 0)[:, 0]
    rotation, _ = torch.linalg.qr(rows(1, 5, 5, 1)[0])
    present = torch.tensor([1, 1, 0, 1, 1, 1]).bool()
    moved = 3 * features @ rotation + rows(1, 1, 5, 2)[0]
    found = [graphs.kernel(x, present) for x in (features, moved)]
    torch.testing.assert_close(*found)
    assert float(found[0].norm()) == pytest.approx(1)
    assert not found[0][2].any()


def test_questions_need_three(case, tokenizers):
    logits, mask, term = case
    loss = graphs.losses(*tokenizers)["questions"]
    both = replace(term, pairs=PAIRS & torch.tensor([1, 1, 0, 0, 0]).bool()[:, None])
    values, present = loss(read(logits, mask), both)
    assert present.sum() == 2
    assert values.abs().max() < 1e-12
    # One question has nothing to be compared with.
    alone = replace(term, pairs=PAIRS & torch.tensor([1, 0, 0, 0, 0]).bool()[:, None])
    values, present = loss(read(logits, mask), alone)
    assert not present.any()
    assert not values.any()


@pytest.mark.filterwarnings("ignore:graph_loss of kind")
def test_constant(case):
    logits, mask, term = case
    row = (9.0, 4.0, 2.0, 1.0, 0.5, 0.0)
    for given in (None, row):
        values, present = graphs.Constant(given)(read(logits, mask), term)
        assert present.tolist() == [True, True, True, True, False]
        uniform = torch.tensor(given or (0.0,) * K, dtype=torch.float64).expand(5, 5, K)
        same = read(uniform.contiguous(), term.topk.mask)
        expected = fusion.graph_loss(
            read(logits, mask).first(K),
            replace(same, ids=term.topk.ids),
            reduction="none",
        )
        torch.testing.assert_close(values, expected)


def test_fused(case, tokenizers):
    shared = next_bytes.symbols(*tokenizers)
    logits, mask, term = case
    ours = read(logits, mask).first(K).standardized("softmax")
    theirs = term.topk.standardized("softmax")
    values = {
        alpha: graphs.Fused(shared, alpha)(read(logits, mask), term)[0]
        for alpha in (0.0, 0.3, 1.0)
    }
    for b in range(4):
        H, G = (side.values[b][side.mask[b]].numpy() for side in (ours, theirs))
        x, y = spaces(H / len(H) ** 0.5, G / len(G) ** 0.5)
        phi, psi = np.zeros((2, K, shared.count + 1))
        for features, side, of in (
            (phi, ours, shared.student),
            (psi, theirs, shared.teacher),
        ):
            for t in range(side.values.shape[1]):
                for r in range(K):
                    symbol = of[side.ids[b, t, r]]
                    features[r, symbol] += side.values[b, t, r] / side.mask[b].sum()
        M = ((phi[:, None] - psi[None]) ** 2).sum(axis=2)
        problem = gw.GWProblem(x, y)
        assert gw.bounds.spectral(x, y) <= float(values[1.0][b])
        for alpha, value in values.items():

            def fused(plan, alpha=alpha, M=M, problem=problem):
                objective = problem.objective(gw.DensePlan(plan))
                return (1 - alpha) * (M * plan).sum() + alpha * objective

            matching = cheapest((1 - alpha) * M + 2 * alpha * linearised(x, y))
            assert float(value[b]) == pytest.approx(fused(matching))
            # The step never raises the objective.
            assert float(value[b]) <= fused(np.eye(K) / K) * (1 + 1e-9)


def test_fused_matches_ranks_by_what_they_stand_for(single_bytes):
    """Two ranks that are all but equal are matched by their bytes, not by rank."""
    V = len(single_bytes)
    logits, theirs = torch.zeros(2, 1, 4, V)
    logits[..., 7], logits[..., 9] = 20.1, 20.0
    theirs[..., 7], theirs[..., 9] = 20.0, 20.1
    every = [[0, 1, 2, 3]]
    term = term_of(read(theirs, k=2), every, every)
    shared = next_bytes.symbols(single_bytes, single_bytes)
    values = [
        float(graphs.Fused(shared, alpha)(read(logits), term)[0])
        for alpha in (0.0, 0.5, 1.0)
    ]
    assert values[2] == pytest.approx(0, abs=1e-9)
    assert values[0] < 0.01
    assert values[1] < 0.01


def cheapest(costs):
    plan = np.zeros(costs.shape)
    plan[linear_sum_assignment(costs)] = 1 / len(costs)
    return plan


def linearised(x, y):
    """Σ_r (C_ir − D_jr)² / k, from the whole matrices."""
    C, D = (space.factor.T @ space.factor for space in (x, y))
    return ((C[:, None] - D[None]) ** 2).mean(axis=2)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name, case, tokenizers):
    logits, mask, term = case
    loss = graphs.losses(*tokenizers)[name]
    weights = torch.tensor([1.0, 0.5, 2.0, 1.5, 1.0], dtype=torch.float64)

    def total(x):
        values, _ = loss(read(x, mask), term)
        return (weights * values).sum()

    x = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(x), x)
    generator = torch.Generator().manual_seed(7)
    for _ in range(4):
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        step = 1e-5
        difference = total(logits + step * direction) - total(logits - step * direction)
        slope = float((gradient * direction).sum())
        assert slope == pytest.approx(float(difference) / (2 * step), rel=1e-5)
    if name in OF_PROBABILITIES:
        assert gradient.sum(dim=2).abs().max() < 1e-12 * gradient.abs().max() * 1e3
    else:
        assert gradient.sum(dim=2).abs().max() > 1e-3 or name == "without_shift"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_masked_does_not_matter(name, case, tokenizers):
    logits, mask, term = case
    loss = graphs.losses(*tokenizers)[name]
    x = logits.clone().requires_grad_()
    values, present = loss(read(x, mask), term)
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert not gradient[~mask].any()
    assert not gradient[~present].any()
    # Other logits where the mask is off, and other indices where there is no pair.
    other = torch.where(mask[:, :, None], logits, rows(5, 7, logits.shape[2], 9))
    ours = torch.where(PAIRS, term.student_index, 5)
    theirs = torch.where(PAIRS, term.teacher_index, 4)
    moved = replace(term, student_index=ours, teacher_index=theirs)
    again, still = loss(read(other, mask), moved)
    torch.testing.assert_close(again, values.detach())
    assert present.equal(still)
    if name in OF_PAIRS:
        # Position 3 of the second example is in no pair.
        assert not gradient[1, 3].any()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "constant"])
def test_zero_where_the_student_is_the_teacher(name, single_bytes, tokenizers):
    every = torch.arange(6).expand(4, 6).tolist()
    for tokenizer, k in ((single_bytes, K), (tokenizers[0], len(tokenizers[0]))):
        if name == "fused" and k > K:
            continue  # matchings of a whole vocabulary
        logits = rows(4, 6, len(tokenizer), 0)
        term = term_of(read(logits, k=k), every, every)
        other = term_of(read(rows(4, 6, len(tokenizer), 1), k=k), every, every)
        loss = graphs.losses(tokenizer, tokenizer)[name]
        values, present = loss(read(logits), term)
        assert present.all()
        scale = loss(read(logits), other)[0].max()
        assert values.abs().max() < 1e-9 * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["ties", "certain", "same"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_numbers(name, kind, dtype, tokenizers):
    student, teacher = tokenizers
    every = torch.arange(3).expand(4, 3).tolist()
    logits = rows(4, 3, len(student), 0).to(dtype)
    theirs = rows(4, 3, len(teacher), 1).to(dtype)
    if kind == "ties":
        # Levels differ, so that the masses of rows do.
        logits = logits[:, :, :1].expand(logits.shape).clone()
        theirs = theirs[:, :, :1].expand(theirs.shape).clone()
    elif kind == "certain":
        # All other probabilities are zero in either precision.
        logits[:, :, 5] += 5000
        theirs[:, :, 9] += 5000
    else:
        logits, theirs = (
            side[:1, :1].expand(side.shape).clone() for side in (logits, theirs)
        )
        logits += 1 + torch.arange(3, dtype=dtype)[:, None]
    x = logits.requires_grad_()
    topk = read(theirs, k=K)
    values, _ = graphs.losses(*tokenizers)[name](read(x), term_of(topk, every, every))
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert values.dtype == dtype
    assert values.isfinite().all()
    assert gradient.isfinite().all()
