"""Settings of a training: their ranges, and how they fit together."""

import dataclasses
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.trainer_utils import IntervalStrategy

from fusion.command_settings import train_settings
from fusion.training.config import FusionConfig, read_config

progress = st.floats(0.0, 1.0)


@pytest.fixture
def config(tmp_path):
    def make(**settings):
        return FusionConfig(output_dir=str(tmp_path / "out"), use_cpu=True, **settings)

    return make


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
    "temperature text": ({"temperature": "1"}, "must be a number"),
    "temperature of log-probabilities": (
        {"standardize": "logprob", "temperature": 2.0},
        "must be 1",
    ),
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
    "batch": ({"per_device_train_batch_size": 0}, "an integer at least 1"),
    "accumulation": ({"gradient_accumulation_steps": -1}, "an integer at least 1"),
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


WORDS = ["save_strategy", "eval_strategy", "logging_strategy"]


@pytest.mark.parametrize("name", WORDS)
def test_words_that_yaml_1_1_takes_for_booleans_are_words(tmp_path, name):
    config = read_config([f"{name}=no", "use_cpu=yes", f"output_dir={tmp_path}"])
    assert getattr(config, name).value == "no"
    assert config.use_cpu is True


BOOLEANS = {"yes": True, "T": True, "1": True, "n": False, "0": False, "false": False}


@pytest.mark.parametrize("word", BOOLEANS)
def test_booleans_are_the_words_of_transformers_own_command_line(tmp_path, word):
    words = ["use_cpu=true", f"output_dir={tmp_path}", f"do_predict={word}"]
    assert read_config(words).do_predict is BOOLEANS[word]


def test_null_leaves_what_has_no_null_at_its_default(tmp_path):
    words = ["use_cpu=true", f"output_dir={tmp_path}", "k=", "stores=", "graph="]
    config = read_config(words)
    assert (config.k, config.stores, config.graph) == (10, {}, None)


METRICS = {
    "eval_sft": False,
    "sft": False,
    "eval_loss": False,
    "eval_uld/some_teacher": False,
    "eval_kl": False,
    "jsd/a": False,
    "eval_graph": False,
    "eval_coverage/a": True,
    "eval_first_sft": False,
    "eval_accuracy": True,  # transformers' choice
}


@pytest.mark.parametrize("metric", METRICS)
def test_losses_are_better_where_they_are_smaller(config, metric):
    found = config(metric_for_best_model=metric)
    assert found.greater_is_better is METRICS[metric]
    for explicit in (True, False):
        found = config(metric_for_best_model=metric, greater_is_better=explicit)
        assert found.greater_is_better is explicit


def test_settings_can_be_copied(config):
    before = config(eval_strategy="steps", optim="sgd", stores={"a": "x"})
    assert dataclasses.replace(before) == before


@pytest.mark.parametrize("strategy", ["no", IntervalStrategy.NO], ids=repr)
def test_going_on_needs_checkpoints(config, strategy):
    with pytest.raises(ValueError, match="add save_strategy=steps"):
        config(resume_from_checkpoint=True, save_strategy=strategy)
    assert config(resume_from_checkpoint=True).resume_from_checkpoint == "auto"
    assert config(resume_from_checkpoint=False).resume_from_checkpoint is None


OWN = train_settings()
DESCRIBED = FusionConfig.__doc__ or ""


@pytest.mark.skipif(not DESCRIBED, reason="docstrings are dropped")
@pytest.mark.parametrize("entry", OWN, ids=lambda entry: entry.name)
def test_the_docstring_names_every_setting_and_its_choices(entry):
    line = rf"(?m)^    (?:\w+, )*{entry.name}(?:, \w+)* : (.*)$"
    (kind,) = re.findall(line, DESCRIBED)
    words = {word for word in entry.metadata["choices"] if word is not None}
    assert set(re.findall(r'"(\w+)"', kind)) == words
    assert entry.metadata["help"]
