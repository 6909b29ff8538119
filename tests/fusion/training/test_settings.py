"""Words and files: the last word wins, and mistakes are one sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.training.settings import read_settings


def test_files_and_arguments_merge_from_left_to_right(tmp_path):
    (tmp_path / "a.yaml").write_text("k: 5\nstores:\n  gemma: one\n  phi: two\n")
    (tmp_path / "b.yml").write_text("k: 6\nstores: {phi: three}\n")
    settings = read_settings(
        [
            str(tmp_path / "a.yaml"),
            str(tmp_path / "b.yml"),
            "k=7",
            "stores.qwen=four",
            "lora.r=8",
        ]
    )
    assert settings == {
        "k": 7,
        "stores": {"gemma": "one", "phi": "three", "qwen": "four"},
        "lora": {"r": 8},
    }


KEYS = ["", " ", ".", "lora.", ".r", "lora..r", "lora. .r"]


@pytest.mark.parametrize("key", KEYS)
def test_empty_keys_are_refused(key):
    with pytest.raises(ValueError, match="names joined by dots") as caught:
        read_settings(["k=2", f"{key}=3"])
    assert repr(key.strip()) in str(caught.value)
    assert "\n" not in str(caught.value)


CLASHES = {
    "a value after a mapping": (["lora.r=8", "lora=3"], "lora"),
    "a mapping after a value": (["lora=3", "lora.r=8"], "lora"),
    "deeper": (["a.b.c=1", "a.b=2", "a.b.c=4"], "a.b"),
    "deeper, reversed": (["a.b=2", "a.b.c=4"], "a.b"),
    "in one word": (["a={b: {c: 1}}", "a={b: 2}"], "a.b"),
    "an empty mapping": (["lora={}", "lora=3"], "lora"),
    "a list": (["lora.r=8", "lora=[r]"], "lora"),
    "false": (["lora=false", "lora.r=8"], "lora"),
    "text": (["stores=there", "stores.gemma=there"], "stores"),
    "a word after a file": (["FILE", "stores=there"], "stores"),
    "a file after a word": (["stores=there", "FILE"], "stores"),
}


@pytest.mark.parametrize("case", CLASHES)
def test_mappings_and_values_do_not_replace_each_other(tmp_path, case):
    arguments, key = CLASHES[case]
    file = tmp_path / "run.yaml"
    file.write_text("stores: {gemma: here}\n")
    words = [str(file) if word == "FILE" else word for word in arguments]
    with pytest.raises(ValueError, match=f"^{key} must be a mapping or") as caught:
        read_settings(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["k=3", "k=[4]", "k=five"], {"k": "five"}),
        (["lora.r=8", "lora={r: 4, bias: none}"], {"lora": {"r": 4, "bias": "none"}}),
        (["lora={r: 4}", "lora.r=8"], {"lora": {"r": 8}}),
        (["lora.r=8", "lora=null"], {"lora": None}),
        (["lora=null", "lora.r=8"], {"lora": {"r": 8}}),
        (["a.b=1", "a.b=null", "a.b.c=2"], {"a": {"b": {"c": 2}}}),
        (["FILE", "stores.gemma=there"], {"stores": {"gemma": "there"}}),
        (["stores.gemma=there", "FILE"], {"stores": {"gemma": "here"}}),
        (["FILE", "stores="], {"stores": None}),
    ],
)
def test_later_words_of_a_kind_win(tmp_path, arguments, settings):
    file = tmp_path / "run.yaml"
    file.write_text("stores: {gemma: here}\n")
    words = [str(file) if word == "FILE" else word for word in arguments]
    assert read_settings(words) == settings


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E+3", 1e3),
        ("-.5e1", -5.0),
        ("2.", 2.0),
        ("3", 3),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("OFF", "OFF"),
        ("{a: [no, y]}", {"a": ["no", "y"]}),
        ("null", None),
        ("1e", "1e"),
        ("e4", "e4"),
        ("a=b", "a=b"),
        ("[q_proj, v_proj]", ["q_proj", "v_proj"]),
        ("", None),
    ],
)
def test_values_are_those_of_yaml_1_2(text, value):
    found = read_settings([f"key={text}"])["key"]
    assert found == value
    assert type(found) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_the_command_line(value):
    found = read_settings([f"key={value!r}"])["key"]
    assert isinstance(found, float)
    assert found == value


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("run.txt", "k: 3", "key=value or a .yaml"),
        ("run.yaml", "- 3", "mapping"),
        ("run.yaml", "3: 3", "mapping"),
        ("run.yaml", "'': 3", "mapping"),
        ("run.yaml", "' ': 3", "mapping"),
        ("run.yaml", "k: [", "valid YAML"),
    ],
)
def test_bad_files_are_refused(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        read_settings([str(tmp_path / name)])
    assert "\n" not in str(caught.value)
