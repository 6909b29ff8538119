"""Settings: the last word wins, numbers are numbers, mistakes are one sentence."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.training.config import FusionConfig, read_config, read_settings

progress = st.floats(0.0, 1.0)


@pytest.fixture
def config(tmp_path):
    def make(**settings):
        return FusionConfig(output_dir=str(tmp_path / "out"), use_cpu=True, **settings)

    return make


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


def test_config_of_arguments(tmp_path):
    (tmp_path / "run.yaml").write_text(
        "stores: {gemma: there}\nlearning_rate: 1e-4\nweighting: ce\n"
    )
    config = read_config(
        [
            str(tmp_path / "run.yaml"),
            f"output_dir={tmp_path}",
            "use_cpu=true",
            "max_steps=3",
        ]
    )
    assert (config.learning_rate, config.weighting, config.max_steps) == (1e-4, "ce", 3)
    assert config.stores == {"gemma": "there"}
    assert not config.remove_unused_columns


def test_defaults_give_way(tmp_path):
    defaults = {"output_dir": str(tmp_path), "use_cpu": True, "logging_steps": 1}
    assert read_config(["logging_steps=7"], **defaults).logging_steps == 7


BAD = {
    "weighting": ({"weighting": "best"}, "one of .uniform., .static., .ce."),
    "schedule": ({"fusion_schedule": "exp"}, "one of .constant., .linear., .cosine."),
    "standardize": ({"standardize": "raw"}, "one of .none."),
    "align": ({"align": "text"}, "one of .bytes."),
    "graph": ({"graph": "third"}, "one of .row_means."),
    "channels": ({"channels": "token"}, "one of .rank."),
    "graphs of vocabularies": (
        {"graph": "gw", "channels": "vocabulary"},
        "channels must be .rank.",
    ),
    "temperature": ({"temperature": 0.0}, "greater than 0"),
    "temperature NaN": ({"temperature": math.nan}, "finite"),
    "temperature text": ({"temperature": "1"}, "finite number"),
    "temperature of log-probabilities": ({"temperature": 2.0}, "must be 1"),
    "ce temperature": ({"ce_temperature": -1.0}, "greater than 0"),
    "teacher temperature": (
        {"stores": {"a": "x"}, "teacher_temperatures": {"a": 0}},
        "teacher_temperatures.a",
    ),
    "unknown teacher": (
        {"stores": {"a": "x"}, "teacher_temperatures": {"b": 1.0}},
        "names b",
    ),
    "static weight": ({"stores": {"a": "x"}, "weighting": "static"}, "lacks a"),
    "negative weight": (
        {"stores": {"a": "x"}, "static_weights": {"a": -1.0}},
        "at least 0",
    ),
    "uld weight": ({"uld_weight": -0.1}, "uld_weight"),
    "fusion weight": ({"fusion_weight": 1.1}, "at most 1"),
    "final weight": ({"final_fusion_weight": -0.1}, "final_fusion_weight"),
    "k": ({"k": 0}, "k must be an integer"),
    "k is no number": ({"k": True}, "k must be an integer"),
    "length": ({"max_length": 1.5}, "max_length must be an integer"),
    "layers": ({"trained_layers": 0}, "trained_layers"),
    "two ways to train few": ({"trained_layers": 1, "lora": {"r": 2}}, "must not both"),
    "smoothing": ({"label_smoothing_factor": 0.1}, "must be 0"),
    "columns": ({"remove_unused_columns": True}, "must be false"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_refused_in_one_sentence(config, case):
    settings, words = BAD[case]
    with pytest.raises(ValueError, match=words) as caught:
        config(**settings)
    assert "\n" not in str(caught.value)


def test_unknown_keys_offer_the_closest(tmp_path):
    with pytest.raises(ValueError, match="did you mean fusion_weight"):
        read_config(["fusion_wieght=0.5"])
    with pytest.raises(ValueError, match="see --help"):
        read_config(["zzzzzzzz=0.5"])


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


SCHEDULES = {
    name: FusionConfig(
        output_dir="unused",
        use_cpu=True,
        fusion_schedule=name,
        fusion_weight=0.8,
        final_fusion_weight=0.2,
    )
    for name in ("constant", "linear", "cosine")
}


@pytest.mark.parametrize("name", SCHEDULES)
@given(progress, progress)
def test_schedules_fall_from_the_first_weight_to_the_last(name, first, second):
    config = SCHEDULES[name]
    assert config.fusion_weight_at(0.0) == pytest.approx(0.8)
    assert config.fusion_weight_at(1.0) == pytest.approx(
        0.8 if name == "constant" else 0.2
    )
    early, late = (config.fusion_weight_at(p) for p in sorted((first, second)))
    assert early >= late - 1e-12


@pytest.mark.skipif(FusionConfig.__doc__ is None, reason="docstrings are dropped")
def test_the_student_is_described_as_the_folder_that_it_must_be():
    described = FusionConfig.__doc__.partition("student : str\n")[2]
    first = described.splitlines()[0]
    assert "Local folder" in first
    assert "name" not in first
