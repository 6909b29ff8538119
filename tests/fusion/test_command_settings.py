"""Settings of commands: what each needs, and what the Trainer's mean there."""

from dataclasses import fields

import pytest

from fusion.command_settings import (
    TRAIN_DEFAULTS,
    TRAINER_SETTINGS,
    CaptureSettings,
    EvaluateSettings,
    require_given,
    settings_of,
    train_settings,
    trainer_settings,
)
from fusion.training.config import FusionConfig


def test_settings_are_those_of_words_and_defaults():
    words = ["model=m", "data=d", "batch_size=3", "device_map={a: 0, b: cpu}"]
    found = settings_of(EvaluateSettings, words)
    assert (found.model, found.batch_size, found.dtype) == ("m", 3, "float32")
    assert found.device_map == {"a": 0, "b": "cpu"}


@pytest.mark.parametrize("words", [["data=d"], ["model=null", "data=d"]])
def test_necessary_settings_must_be_given(words):
    with pytest.raises(ValueError, match="model must be given, but is not: add model="):
        settings_of(EvaluateSettings, words)


def test_given_settings_pass():
    require_given("data", "x")
    with pytest.raises(ValueError, match="data must be given"):
        require_given("data", None)


def test_wrong_types_are_refused():
    words = ["teacher=t", "data=d", "store=s", "device_map=3"]
    with pytest.raises(ValueError, match="device_map must be text or a mapping"):
        settings_of(CaptureSettings, words)


def test_help_of_the_trainer_has_the_defaults_of_the_command():
    before = {entry.name: entry.default for entry in fields(FusionConfig)}
    found = {entry.name: entry.default for entry in trainer_settings()}
    assert set(found) == set(TRAINER_SETTINGS)
    assert found["save_steps"] == TRAIN_DEFAULTS["save_steps"]
    assert found["seed"] == before["seed"]
    after = {entry.name: entry.default for entry in fields(FusionConfig)}
    assert after == before


def test_settings_of_fusion_are_not_those_of_the_trainer():
    own = {entry.name for entry in train_settings()}
    assert {"student", "stores", "head_chunk"} <= own
    assert not own & set(TRAINER_SETTINGS)
