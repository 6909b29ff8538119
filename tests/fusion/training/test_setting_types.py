"""Values of a wrong type are refused in one sentence that names the setting."""

from dataclasses import dataclass, fields
from typing import Any, get_type_hints

import pytest

from fusion.training.config import FusionConfig, read_config
from fusion.training.setting_types import (
    check_settings,
    described,
    from_words,
    necessary,
    setting,
)

WRONG = {
    "k=ten": "k must be an integer, but is 'ten': write k=8.",
    "fusion_weight=[1]": "fusion_weight must be a number, but is [1]",
    "lora=8": "lora must be a mapping or null, but is 8: write lora.NAME=…",
    "stores=DIR": "stores must be a mapping, but is 'DIR': write stores.NAME=…",
    "stores.a=3": "stores.a must be text, but is 3: write stores.a=TEXT",
    "static_weights.a=x": "static_weights.a must be a number, but is 'x'",
    "per_device_train_batch_size=4.5": "must be an integer, but is 4.5",
    "learning_rate=fast": "learning_rate must be a number, but is 'fast'",
    "max_steps=abc": "max_steps must be an integer, but is 'abc'",
    "max_steps=true": "max_steps must be an integer, but is True",
    "use_cpu=maybe": "use_cpu must be true or false, but is 'maybe'",
    "use_cpu=on": "use_cpu must be true or false, but is 'on'",
    "trained_layers=1.5": "trained_layers must be an integer or null, but is 1.5",
    "student=3": "student must be text or null, but is 3",
    "eval_steps=often": "eval_steps must be a number or null, but is 'often'",
    "save_strategy=never": "save_strategy must be one of no, steps, epoch",
    "label_names=[1]": "label_names must be a list or null, but is [1]",
    "graph=third": "graph must be one of 'row_means'",
    "trained_layers=0": "trained_layers must be an integer at least 1, but is 0",
    "teacher_temperatures.a=0": "teacher_temperatures.a must be a finite number",
}


@pytest.mark.parametrize("word", WRONG)
def test_wrong_types_are_refused(tmp_path, word):
    with pytest.raises(ValueError, match=word.partition("=")[0]) as caught:
        read_config(["use_cpu=true", word], output_dir=str(tmp_path))
    assert WRONG[word] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [int, float, bool])
def test_no_inherited_number_may_be_text(tmp_path, kind):
    hints = get_type_hints(FusionConfig)
    names = [e.name for e in fields(FusionConfig) if e.init and hints[e.name] is kind]
    assert len(names) > 5
    for name in names:
        with pytest.raises(ValueError, match=f"^{name} must be "):
            FusionConfig(**{"output_dir": str(tmp_path), name: "some text"})


def test_whole_numbers_are_numbers(tmp_path):
    words = ["use_cpu=true", "learning_rate=1", "save_steps=20", "logging_steps=0.5"]
    config = read_config(words, output_dir=str(tmp_path))
    assert (config.learning_rate, config.save_steps, config.logging_steps) == (
        1,
        20,
        0.5,
    )


@dataclass
class Kind:
    """Settings of all kinds."""

    size: int = setting("how many", least=1, most=9)
    flag: bool = False
    either: bool | str = "no"
    word: str | None = setting("which", choices=("a", None), default=None)
    several: list[int] | None = None
    tree: dict[str, dict[str, float]] | None = None
    shares: dict[str, float] | None = setting("how much", above=0, default=None)
    any: Any = None


def test_words_become_booleans_where_text_is_none():
    found = from_words(Kind, {"flag": "No", "either": "no", "size": None, "word": None})
    assert found == {"flag": False, "either": "no", "word": None}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"size": 1.0}, "size must be an integer"),
        ({"several": [1, True]}, "several must be a list or null"),
        ({"tree": {"a": {"b": "c"}}}, "tree.a.b must be a number"),
        ({"shares": {"a": -1}}, "shares.a must be a finite number greater than 0"),
        ({"word": "b"}, "word must be one of 'a', None"),
    ],
)
def test_entries_are_named_by_their_keys(value, words):
    with pytest.raises(ValueError, match="must be") as caught:
        check_settings(Kind, value)
    assert words in str(caught.value)


def test_right_values_pass():
    right = {
        "size": 3,
        "several": [1],
        "tree": {"a": {"b": 1}},
        "any": [{}],
        "word": "a",
    }
    check_settings(Kind, right)


def test_help_says_values_bounds_and_what_is_necessary():
    hints = get_type_hints(Kind)
    told = {e.name: described(e, hints[e.name]) for e in fields(Kind)}
    assert told["size"] == "an integer at least 1 and at most 9"
    assert told["word"] == "a | null"
    assert told["shares"] == "a mapping to numbers above 0"
    assert told["flag"] == "true or false"
    assert [e.name for e in fields(Kind) if necessary(e)] == ["size"]
