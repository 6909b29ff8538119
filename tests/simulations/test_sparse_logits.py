"""What a few logits tell of whole rows: claims that hold exactly, and the files."""

import pytest

pytest.importorskip("matplotlib")
torch = pytest.importorskip("torch")
report = pytest.importorskip("simulations._report")
sparse_logits = pytest.importorskip("simulations.sparse_logits")
LOSSES, Kept = sparse_logits.LOSSES, sparse_logits.Kept


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "sparse"
    assert sparse_logits.main(["--out", str(out), "--quick", "--repeats", "2"]) == 0
    return out.with_name("sparse-quick")


@pytest.fixture(scope="module")
def rows(folder):
    measured = report.read_rows(folder / "summary.csv")
    return {tuple(row.values())[:4]: row for row in measured}


def test_a_student_that_is_the_teacher_has_no_loss_but_by_two_ways(rows):
    of_equal = {key: row["same"] for key, row in rows.items() if row["same"] != ""}
    ways = {way for (*_, way), value in of_equal.items() if abs(value) > 1e-12}
    assert ways == {"top-k, renormalised", "sorted draws"}


@pytest.mark.parametrize("kind", sparse_logits.ROWS)
def test_kl_with_the_rest_as_one_token_is_never_above_that_of_whole_rows(kind, rows):
    assert rows["KL", "same", kind, "top-k and the rest"]["bias"] < 0


def every_rank(k, V):
    """As many even ranks as the tail has."""
    generator = torch.Generator().manual_seed(1)
    teacher = sparse_logits.teacher_rows("Zipf", 3, V, generator)
    return Kept(teacher, k, V - k, generator), generator


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "KL"])
def test_even_ranks_are_the_loss_of_whole_rows_where_they_are_all(loss):
    kept, generator = every_rank(4, 25)
    student = sparse_logits.teacher_rows("flat", 3, 31, generator)
    whole, _, of_more = LOSSES[loss]
    torch.testing.assert_close(
        of_more["even ranks"](student, kept), whole(student, kept.teacher)
    )


def test_draws_by_rank_are_without_bias_where_chances_are_equal():
    # Of a tail of equal probabilities m strata of one rank each are all ranks.
    teacher = torch.zeros(1, 2, 12, dtype=torch.float64)
    teacher[..., :2] = 3.0
    kept = Kept(teacher, 2, 10, torch.Generator().manual_seed(0))
    student = torch.linspace(0, 2, 24, dtype=torch.float64).reshape(1, 2, 12)
    for loss in ("ULD, probabilities", "ULD, log-probabilities"):
        whole, _, of_more = LOSSES[loss]
        found = of_more["draws by rank"](student, kept)
        torch.testing.assert_close(found, whole(student, teacher))


def test_the_length_of_an_expectation_leaves_noise_out():
    generator = torch.Generator().manual_seed(0)
    noisy = torch.ones(2000, 4) + 3 * torch.randn(2000, 4, generator=generator)
    length = float(sparse_logits._length_of_expectation(noisy[:, :]))
    assert length == pytest.approx(2, rel=0.1)
    few = sparse_logits._length_of_expectation(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    assert few == 1  # pairs have no correlation: the length of the mean
    one = sparse_logits._length_of_expectation(torch.tensor([[3.0, 4.0]]))
    assert one == 5


def test_everything_is_written(folder):
    files = {path.name for path in folder.iterdir()}
    assert files == {"meta.json", "sparse_logits.md", "summary.csv"}
    text = (folder / "sparse_logits.md").read_text()
    assert "GLD, log-probabilities; 30 tokens, the student 40" in text
