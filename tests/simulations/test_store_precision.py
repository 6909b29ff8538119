"""What a store's bits are worth: the lines that must be there, and the files."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
_rows = pytest.importorskip("fusion.teachers.capture")._rows
store_precision = pytest.importorskip("simulations.store_precision")

T, V = 12, 200


@pytest.fixture(scope="module")
def rows():
    measured = store_precision.measure(T, V, 0)
    return {(r["values"], r["relative"], r["shift"]): r for r in measured}


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_errors_of_relative_values_do_not_hang_on_the_shift(name, rows):
    near, far = rows[name, "yes", 0], rows[name, "yes", 1000]
    for error in ("logprob", "centred"):
        assert near[error] == far[error]
        assert rows[name, "no", 1000][error] > 20 * far[error]


class Code:
    """Tokens that follow a prompt of one."""

    input_ids = np.zeros(T + 1, dtype=np.int64)
    completion_mask = np.arange(T + 1) > 0
    ends = np.arange(T)


def test_the_line_of_format_2_is_what_capture_keeps(rows):
    logits, _ = store_precision.draw(T, V, 0)
    found = _rows(logits[0] + 100, Code, store_precision.TOP)
    wanted = logits[0].log_softmax(1).topk(store_precision.TOP).values.numpy()
    logprobs = found.values.astype(float) - found.logsumexp[:, None].astype(float)
    error = np.abs(logprobs - wanted).max()
    assert rows["float16", "yes", 100]["logprob"] == pytest.approx(error, rel=1e-3)
    names = ("values", "ids", "logsumexp", "mean", "std", "nll", "shift")
    size = sum(getattr(found, name).itemsize for name in names if name != "values")
    # Ids and values have ten entries, of which the first value is left out; lengths
    # have two bytes.
    size += 9 * found.ids.itemsize + 9 * found.values.itemsize + 2
    assert rows["float16", "yes", 100]["bytes"] == size


def test_everything_is_written(tmp_path, capsys):
    out = str(tmp_path / "precision")
    assert store_precision.main(["--out", out, "--quick"]) == 0
    names = {path.name for path in (tmp_path / "precision-quick").iterdir()}
    assert names == {"precision.csv", "store_precision.md", "meta.json"}
    assert "bfloat16" in capsys.readouterr().out
