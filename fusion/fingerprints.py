"""What models, tokenizers and templates are known by: digests of all that counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def model_fingerprint(model: PreTrainedModel) -> str:
    """The sha256 of a model's configuration and weights, wherever they lie."""
    config = model.config.to_diff_dict()
    # These depend on where and by which version it was loaded. The types that count are
    # those of the weights.
    for volatile in ("_name_or_path", "transformers_version", "dtype", "torch_dtype"):
        config.pop(volatile, None)
    digest = hashlib.sha256(_canonical(config))
    weights = model.state_dict()
    for name in sorted(weights):
        # What modules keep beside tensors, as some kinds of quantised ones do.
        if not isinstance(weights[name], Tensor):
            digest.update(_canonical([name, weights[name]]))
            continue
        for part, tensor in _plain_parts(name, _in_memory(model, name, weights[name])):
            header = f"{part} {tensor.dtype} {tuple(tensor.shape)}"
            digest.update(header.encode())
            tensor = tensor.detach().cpu().contiguous()
            # NumPy has no bfloat16: weights are hashed as bytes.
            content: Any = tensor.view(-1).view(torch.uint8).numpy()
            digest.update(content)
    return digest.hexdigest()


def _in_memory(model: PreTrainedModel, name: str, tensor: Tensor) -> Tensor:
    """The tensor itself, read from where accelerate keeps it if it is not in memory."""
    if not tensor.is_meta:
        return tensor
    # accelerate is needed for such a model only.
    from accelerate.utils import align_module_device

    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    with align_module_device(module, torch.device("cpu")):
        found: Tensor = getattr(module, leaf)
        return found.detach().clone()


def _plain_parts(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The tensors of numbers that a tensor consists of, with a name of each."""
    # Quantised weights may be of classes that hold several: numbers, scales, zeros.
    if not hasattr(tensor, "__tensor_flatten__"):
        yield name, tensor
        return
    parts, _ = tensor.__tensor_flatten__()
    for part in parts:
        yield from _plain_parts(f"{name}.{part}", getattr(tensor, part))


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """The sha256 of all that decides how text becomes ids, but for the chat template.

    Padding and truncation are left out: calls change them.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state.pop("padding", None)
    state.pop("truncation", None)
    # The special tokens that templates and ends of completions are made of.
    content = [state, tokenizer.bos_token, tokenizer.eos_token]
    digest = hashlib.sha256(_canonical(content))
    return digest.hexdigest()


def template_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """The sha256 of the chat template; of nothing where there is none."""
    template = tokenizer.chat_template or ""
    digest = hashlib.sha256(template.encode())
    return digest.hexdigest()


def _canonical(value: Any) -> bytes:
    """JSON that is the same for every order of the keys."""
    text = json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        default=str,
    )
    return text.encode()
