"""The closing interval: intervals of one plan shrink, and finished ones are kept."""

from simulations import _report as report
from simulations import closing_interval


def test_a_quick_run_is_published_and_resumed(tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "interval"), "--quick"]
    assert closing_interval.main(arguments) == 0
    folder = tmp_path / "interval-quick"
    before = (folder / "intervals.csv").read_text()
    assert closing_interval.main(arguments) == 0
    assert (folder / "intervals.csv").read_text() == before
    rows = report.read_rows(folder / "intervals.csv")
    efforts = [row["effort"] for row in rows]
    assert efforts == [*closing_interval.EFFORTS, "1 s"]
    lower = {row["effort"]: row["lower"] for row in rows}
    assert lower["linear"] <= lower["quadratic"] <= lower["cubic"] <= lower["quartic"]
    assert len({row["upper"] for row in rows}) == 1
    assert all(row["lower"] <= row["upper"] for row in rows)
    assert (folder / "closing_interval.png").stat().st_size > 1000
