"""Settings that contradict each other are refused by the setting that is at fault."""

import pytest

pytest.importorskip("transformers")

from fusion.training.config import FusionConfig

LIVE = {"live_teachers": {"a": "b"}, "on_policy": 0.5}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"live_teachers": {"a": "b"}}, "on_policy must be above 0 where there are"),
        (LIVE | {"on_policy": 1.5}, "on_policy must be"),
        (LIVE | {"fusion_weight": 0.0}, "fusion_weight must be above 0 where on_pol"),
        (LIVE | {"fsdp": "full_shard"}, "on_policy must be 0 where the student is in"),
        ({"live_templates": {"a": "b"}}, "live_templates must name live_teachers"),
        (
            LIVE | {"live_teachers": {"a": "b", "c": "d"}, "weighting": "ce"},
            "ce_temperature must be given",
        ),
        (LIVE | {"weighting": "static"}, "must hold every teacher of stores and live_"),
        (LIVE | {"static_weights": {"b": 1.0}}, "must name teachers of stores or live"),
    ],
)
def test_settings_of_live_teachers_that_cannot_be(settings, words):
    with pytest.raises(ValueError, match=words):
        FusionConfig("out", use_cpu=True, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        LIVE,
        LIVE | {"weighting": "static", "static_weights": {"a": 1.0}},
        LIVE | {"teacher_temperatures": {"a": 2.0}, "standardize": "center"},
        LIVE
        | {
            "fusion_weight": 0.0,
            "fusion_schedule": "linear",
            "final_fusion_weight": 0.5,
        },
    ],
)
def test_settings_of_live_teachers_that_can_be(settings):
    assert FusionConfig("out", use_cpu=True, **settings).on_policy == 0.5
