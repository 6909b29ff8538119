"""Fingerprints are those of what is computed, wherever and however weights lie."""

import copy
from types import SimpleNamespace

import pytest
import torch

from fusion.fingerprints import (
    model_fingerprint,
    template_fingerprint,
    tokenizer_fingerprint,
)
from fusion.models import load_model, load_tokenizer


def test_saved_models_keep_their_fingerprints(tmp_path, gpt2):
    for part in gpt2:
        part.save_pretrained(tmp_path / "other name")
    assert model_fingerprint(load_model(tmp_path / "other name")) == model_fingerprint(
        gpt2[0]
    )
    again = load_tokenizer(tmp_path / "other name")
    assert tokenizer_fingerprint(again) == tokenizer_fingerprint(gpt2[1])
    assert template_fingerprint(again) == template_fingerprint(gpt2[1])


def test_fingerprints_change_with_what_is_computed(gpt2):
    model = copy.deepcopy(gpt2[0])
    before = model_fingerprint(model)
    model.transformer.ln_f.bias.data[3] += 1e-6
    changed = model_fingerprint(model)
    model.config.activation_function = "relu"
    assert (
        len(
            {
                before,
                changed,
                model_fingerprint(model),
                model_fingerprint(model.bfloat16()),
            }
        )
        == 4
    )


def test_templates_have_their_own(tmp_path, gpt2):
    gpt2[1].save_pretrained(tmp_path)
    gpt2[0].save_pretrained(tmp_path)
    (tmp_path / "other.jinja").write_text("{{ messages }}", encoding="utf-8")
    other = load_tokenizer(tmp_path, tmp_path / "other.jinja")
    assert template_fingerprint(other) != template_fingerprint(gpt2[1])


def test_weights_on_the_disk_have_the_same(tmp_path, gpt2):
    """Of a model of which accelerate brings in each layer as it is needed."""
    accelerate = pytest.importorskip("accelerate")
    model = copy.deepcopy(gpt2[0])
    expected = model_fingerprint(model)
    offloaded = accelerate.disk_offload(model, tmp_path, torch.device("cpu"))
    assert any(weight.is_meta for weight in offloaded.parameters())
    assert model_fingerprint(offloaded) == expected


class Quantized(torch.Tensor):
    """Numbers and their scale, as quantised weights hold them."""

    @staticmethod
    def __new__(cls, numbers, scale):
        return torch.Tensor._make_wrapper_subclass(cls, numbers.shape)

    def __init__(self, numbers, scale):
        self.numbers, self.scale = numbers, scale

    def __tensor_flatten__(self):
        return ["numbers", "scale"], None

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), options=None):
        raise AssertionError(function)


def fake(numbers, scale, extra="int8"):
    """A model of one quantised weight, beside what its module keeps of it."""
    weight = Quantized(torch.tensor(numbers, dtype=torch.int8), torch.tensor(scale))
    state = {"weight": weight, "_extra_state": {"kind": extra}}
    config = SimpleNamespace(to_diff_dict=dict)
    return SimpleNamespace(config=config, state_dict=lambda: state)


def test_quantised_weights_are_told_apart_by_all_they_consist_of():
    models = [
        fake([1, 2], 0.5),
        fake([1, 3], 0.5),
        fake([1, 2], 0.25),
        fake([1, 2], 0.5, "int4"),
    ]
    digests = [model_fingerprint(model) for model in models]
    assert len(set(digests)) == len(digests)
    assert model_fingerprint(fake([1, 2], 0.5)) == digests[0]
