"""What each loss moves: the patterns that must be there, and the files."""

import pytest

pytest.importorskip("matplotlib")
torch = pytest.importorskip("torch")
loss_fields = pytest.importorskip("simulations.loss_fields")


@pytest.fixture(scope="module")
def rows():
    measured, _ = loss_fields.measure(12, 0)
    return {(row["case"], row["loss"]): row for row in measured}


def test_losses_are_blind_to_what_they_cannot_see(rows):
    blind = {(case, name) for (case, name), row in rows.items() if row["value"] < 1e-9}
    graphs = {name for name in loss_fields.LOSSES if name.startswith("graph")}
    assert blind == {("constants", "KL"), *(("positions", name) for name in graphs)}


@pytest.mark.parametrize("case", ["co-activation", "positions", "marginals"])
def test_kl_never_moves_whole_rows(case, rows):
    assert rows[case, "KL"]["rows"] < 1e-12


def test_shares_add_up(rows):
    for row in rows.values():
        total = sum(row[name] for name in loss_fields.SHARES)
        assert total == pytest.approx(1.0 if row["gradient_norm"] else 0.0)


def test_everything_is_written(tmp_path, capsys):
    assert loss_fields.main(["--out", str(tmp_path / "fields"), "--quick"]) == 0
    folder = tmp_path / "fields-quick"
    assert {path.name for path in folder.iterdir()} == {
        "fields.csv",
        "loss_fields.md",
        "loss_fields.png",
        "meta.json",
    }
    assert "co-activation" in capsys.readouterr().out
