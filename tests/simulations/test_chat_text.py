"""Tokens are the chat template's in eight languages, and the files say so."""

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("transformers")

from simulations import _report as report
from simulations import chat_text


def test_tokenizers_made_like_widespread_ones_agree_and_all_is_written(
    tmp_path, capsys
):
    assert chat_text.main(["--out", str(tmp_path / "text"), "--quick"]) == 0
    folder = tmp_path / "text-quick"
    assert {path.name for path in folder.iterdir()} == {
        "chat_text.md",
        "conversations.csv",
        "meta.json",
    }
    rows = report.read_rows(folder / "conversations.csv")
    assert len(rows) == 3 * len(chat_text.WORDS)
    for row in rows:
        assert row["equal"] == row["seam"] == row["covered"] == row["conversations"]
    assert any(row["straddling"] for row in rows)
    assert "like Llama 2" in capsys.readouterr().out
    recorded = report.read_rows(
        chat_text.Path(chat_text.__file__).parent
        / "results/chat_text/conversations.csv"
    )
    names = {row["tokenizer"] for row in recorded}
    assert names == {"smollm2", "gemma3", *(row["tokenizer"] for row in rows)}
    for row in recorded:
        assert row["equal"] == row["seam"] == row["covered"] == row["conversations"]


def test_conversations_are_the_seeds():
    assert chat_text.conversations(16, 1) == chat_text.conversations(16, 1)
    assert chat_text.conversations(16, 1) != chat_text.conversations(16, 2)
